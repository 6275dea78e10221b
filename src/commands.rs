//! Running each command: settings are checked first, then the log begins, then the
//! command does its work.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use stoa_runtime::identity::Role;
use stoa_runtime::startup::StartupListener;
use stoa_runtime::telemetry::Telemetry;
use stoa_service::fault_injection;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::{
    AccountRole, Cli, Command, ConfigCommand, DataArgs, EventsCommand, Format, RoleName,
    SchemaCommand, UpArgs, UsersCommand,
};
use crate::output::{line, text};
use crate::service_name::ServiceName;
use crate::settings::{Purpose, Settings, check, file, table};
use crate::{Error, doctor, events, roles, schema, services, up};

const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a command until it is done, or until the process is asked to stop.
///
/// # Errors
/// What went wrong, as one sentence; of settings, everything that is wrong.
pub async fn run(cli: Cli) -> Result<(), Error> {
    file::load(cli.config.as_deref()).map_err(stoa_runtime::settings::SettingErrors::from)?;
    let command = cli.command.unwrap_or(Command::Up(cli.up));
    let Some((purpose, name, data_dir)) = needs_settings(&command) else {
        return run_without_settings(command).await;
    };
    let settings = Settings::load(purpose, data_dir)?;
    let telemetry = Telemetry::init(name, &settings.log);
    for warning in check::unknown_names() {
        tracing::warn!("{warning}");
    }
    fault_injection::set_rate(settings.fault_rate);
    // Boxed: a future of all commands is too deep for the compiler to lay out.
    let done = Box::pin(run_with_settings(command, settings)).await;
    telemetry.shutdown().await;
    done
}

/// What a command's process is for, its name in traces, and the data folder that
/// was named; `None` if it needs no settings.
fn needs_settings(command: &Command) -> Option<(Purpose, &'static str, Option<PathBuf>)> {
    let command_on = |name, data: &DataArgs| (Purpose::Command, name, data.data_dir.clone());
    Some(match command {
        Command::Up(args) => (Purpose::Up, "up", args.data_dir.clone()),
        Command::Router(args) => (Purpose::Router, "router", args.data.data_dir.clone()),
        Command::Subgraph(args) => (
            Purpose::Subgraph(args.name),
            args.name.as_str(),
            args.data.data_dir.clone(),
        ),
        Command::Migrate(data) => command_on("migrate", data),
        Command::Doctor(data) => command_on("doctor", data),
        Command::Events { command } => match command {
            EventsCommand::Dead(data) | EventsCommand::Replay { data, .. } => {
                command_on("events", data)
            }
        },
        Command::Users { command } => {
            let UsersCommand::Add { data, .. } = command;
            command_on("users", data)
        }
        Command::Schema { .. } | Command::Config { .. } | Command::Health { .. } => return None,
    })
}

async fn run_without_settings(command: Command) -> Result<(), Error> {
    match command {
        Command::Schema { command } => run_schema(command).await,
        Command::Config { command } => match command {
            ConfigCommand::Check { role, data } => {
                let checked = Settings::load(role.purpose(), data.data_dir).map(|_| ());
                Ok(check::print(checked)?)
            }
            ConfigCommand::Docs => {
                text(table::markdown());
                Ok(())
            }
        },
        Command::Health { url } => health(&url).await,
        _ => Ok(()),
    }
}

async fn run_with_settings(command: Command, settings: Settings) -> Result<(), Error> {
    match command {
        Command::Up(args) => Box::pin(run_up(settings, args)).await,
        Command::Router(args) => {
            let sdl = std::fs::read_to_string(&args.supergraph).map_err(|error| {
                Error::failed(format!("cannot read {}", args.supergraph.display()), error)
            })?;
            let listener = bind(args.listen).await?;
            let urls = &args.subgraph_urls;
            roles::router(&settings, &sdl, urls, listener, stop_signal()).await
        }
        Command::Subgraph(args) => {
            let default = SocketAddr::from(([127, 0, 0, 1], args.name.default_port()));
            let listener = bind(args.listen.unwrap_or(default)).await?;
            roles::subgraph(&settings, args.name, listener, stop_signal()).await
        }
        Command::Migrate(_) => services::migrate(&settings).await,
        Command::Users { command } => add_user(&settings, command).await,
        Command::Doctor(_) => {
            if doctor::run(&settings).await? {
                return Ok(());
            }
            Err(Error::failed(
                "stock, payments and orders are not consistent",
                "the lines above say what and where; nothing was changed",
            ))
        }
        Command::Events { command } => match command {
            EventsCommand::Dead(_) => events::list_dead_letters(&settings).await,
            EventsCommand::Replay { id, .. } => events::replay(&settings, id).await,
        },
        Command::Schema { .. } | Command::Config { .. } | Command::Health { .. } => Ok(()),
    }
}

async fn run_schema(command: SchemaCommand) -> Result<(), Error> {
    match command {
        SchemaCommand::Compose {
            subgraphs,
            out,
            format,
        } => schema::compose(&subgraphs, out.as_deref(), format == Format::Json),
        SchemaCommand::Plan {
            supergraph,
            query,
            operation,
            variables,
            labels,
        } => schema::plan(
            &supergraph,
            &query,
            operation.as_deref(),
            variables.as_deref(),
            &labels,
        ),
        SchemaCommand::Print { name } => {
            text(schema::print(name).await?);
            Ok(())
        }
    }
}

impl RoleName {
    fn purpose(self) -> Purpose {
        match self {
            Self::Up => Purpose::Up,
            Self::Router => Purpose::Router,
            Self::Users => Purpose::Subgraph(ServiceName::Users),
            Self::Products => Purpose::Subgraph(ServiceName::Products),
            Self::Orders => Purpose::Subgraph(ServiceName::Orders),
            Self::Notifications => Purpose::Subgraph(ServiceName::Notifications),
        }
    }
}

async fn run_up(settings: Settings, args: UpArgs) -> Result<(), Error> {
    // Dropped last: an ephemeral shop deletes its folder when it has stopped.
    let ephemeral = args.ephemeral.then(up::ephemeral_folder).transpose()?;
    let settings = match &ephemeral {
        Some(ephemeral) => settings.in_folder(ephemeral.path()),
        None => settings,
    };
    let listener = bind(args.listen).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::failed("cannot listen", error))?;
    let startup = StartupListener::default();
    let stop = stop_signal();
    let ending = stop.clone();
    let running = async {
        let building = up::Shop::build(&settings, &startup, address);
        let Some(shop) = ending.run_until_cancelled(building).await else {
            return Ok(Vec::new());
        };
        let shop = shop?;
        shop.print_welcome(address);
        shop.run(&startup, ending).await
    };
    roles::serve(&startup, listener, stop, Box::pin(running)).await
}

/// Creates an account: no administrator exists yet who could create the first one.
async fn add_user(settings: &Settings, command: UsersCommand) -> Result<(), Error> {
    let UsersCommand::Add {
        email,
        role,
        first_name,
        last_name,
        data: _,
    } = command;
    let failed = |cause: &dyn std::fmt::Display| Error::failed("cannot make the account", cause);
    if std::io::stdin().is_terminal() {
        eprintln!("Password (it is shown as you type; at least 10 characters), then Enter:");
    }
    let mut password = String::new();
    std::io::stdin()
        .read_line(&mut password)
        .map_err(|error| failed(&error))?;
    let (service, app) = services::existing_users(settings).await?;
    let registration = stoa_users::domain::Registration {
        email,
        password: password.trim_end_matches(['\r', '\n']).to_owned(),
        first_name,
        last_name,
    };
    let role = match role {
        AccountRole::Customer => Role::Customer,
        AccountRole::Admin => Role::Admin,
    };
    let made = app.account_create(registration, role).await;
    service.database.close().await;
    match made {
        Ok(account) => {
            line(format_args!(
                "created {} as {}",
                account.email,
                role.into_str().to_lowercase()
            ));
            Ok(())
        }
        Err(stoa_users::Error::Invalid(problems)) => {
            let all: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
            Err(failed(&all.join("; ")))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// A readiness check for containers, which have no other HTTP client.
async fn health(url: &str) -> Result<(), Error> {
    let not_ready =
        |cause: &dyn std::fmt::Display| Error::failed(format!("{url} is not ready"), cause);
    let client = reqwest::Client::builder()
        .timeout(HEALTH_TIMEOUT)
        .build()
        .map_err(|error| not_ready(&error))?;
    let answer = client
        .get(url)
        .send()
        .await
        .map_err(|error| not_ready(&error))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    if status.is_success() {
        line(text);
        Ok(())
    } else {
        Err(not_ready(&format!("{status} {text}")))
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::failed(
            format!("cannot listen on {address} (choose another with --listen)"),
            error,
        )
    })
}

/// Cancelled by Ctrl-C or SIGTERM.
fn stop_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            match signal(SignalKind::terminate()) {
                Ok(mut terminate) => {
                    tokio::select! {
                        _ = tokio::signal::ctrl_c() => {}
                        _ = terminate.recv() => {}
                    }
                }
                Err(_) => {
                    let _ = tokio::signal::ctrl_c().await;
                }
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("stopping: finishing the requests in progress");
        token.cancel();
    });
    stop
}
