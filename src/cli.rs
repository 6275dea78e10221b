//! The command line.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use stoa_runtime::identity::Role;
use stoa_runtime::settings::data_dir;
use stoa_runtime::startup::StartupListener;
use stoa_runtime::telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::service_name::ServiceName;
use crate::settings::Settings;
use crate::{Error, doctor, events, roles, schema, services, up};

const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

const AFTER_HELP: &str = "\
Examples:
  stoa                                    the whole shop on http://127.0.0.1:3000
  stoa up --ephemeral                     the same, with data that is deleted when it stops
  stoa router --supergraph graph.graphql  the router alone, over any federation graph
  stoa subgraph orders                    one service alone, on port 3003
  stoa doctor                             check that stock, payments and orders are consistent
  stoa schema compose --subgraph a=a.graphql@http://127.0.0.1:4001 --out graph.graphql

Settings come from the environment:
  STOA_ENV                 development (default) or production
  STOA_DATA_DIR            databases and development secrets (default ./data)
  STOA_RATE_LIMIT          off switches rate limits off, in development
  STOA_LOG                 what is logged, such as info or stoa_router=debug
  STOA_LOG_FORMAT          text for people, json (default) for machines
  STOA_INTERNAL_SECRET     signs identities between processes (or STOA_INTERNAL_SECRET_FILE)
  STOA_CURSOR_SECRET       signs subscription cursors (or STOA_CURSOR_SECRET_FILE)
  STOA_SIGNING_KEY_FILE    Ed25519 key of access tokens, PKCS#8 PEM
  STOA_JWKS_URL            where `stoa router` finds the keys that verify access tokens
  STOA_CORS_ORIGINS        origins of pages that may call, separated by commas
  STOA_{USERS,PRODUCTS,ORDERS,NOTIFICATIONS}_DATABASE_URL
                           sqlite://PATH (default: in the data folder) or
                           postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full&sslrootcert=PEM
  STOA_DATABASE_POOL       connections to each PostgreSQL database (default 10)
  STOA_BUS_URL             embedded: (default), nats://[USER:PASSWORD@]HOST or tls://HOST
  STOA_BUS_CREDENTIALS_FILE, STOA_BUS_CA_FILE, STOA_BUS_REPLICAS   of NATS
  STOA_CACHE_URL           memory: (default), redis://[USER:PASSWORD@]HOST or rediss://HOST
  STOA_CACHE_CA_FILE       of Redis
  STOA_PAYMENTS            sandbox (no money moves; default) or stripe; production must choose
  STOA_STRIPE_SECRET_KEY, STOA_STRIPE_WEBHOOK_SECRET
                           or files: STOA_STRIPE_SECRET_KEY_FILE, STOA_STRIPE_WEBHOOK_SECRET_FILE
  STOA_RATES_FILE          JSON table of tax and shipping (default: neither)
  STOA_TRUSTED_PROXIES     networks whose X-Forwarded-For is trusted, such as 10.0.0.0/8
  STOA_{PRODUCTS,ORDERS}_URL   where `stoa subgraph` finds its peers
  OTEL_EXPORTER_OTLP_ENDPOINT  where traces go (off by default); other OTEL_* as usual";

/// Stoa: a federated shop in one binary.
///
/// Without a command it runs everything: router, users, products, orders and
/// notifications, with an embedded database, event bus and cache.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: UpArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process (the default)
    Up(UpArgs),
    /// Run the router alone, over the subgraphs that a supergraph file names
    Router(RouterArgs),
    /// Run one service alone
    Subgraph(SubgraphArgs),
    /// Print or compose schemas
    Schema {
        #[command(subcommand)]
        command: SchemaCommand,
    },
    /// Migrate every database, and exit
    Migrate,
    /// Manage accounts
    Users {
        #[command(subcommand)]
        command: UsersCommand,
    },
    /// Check that stock, payments and orders are consistent; fails if they are not
    Doctor(DoctorArgs),
    /// Manage events that could not be handled
    Events {
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Check that a running process is ready; fails if it is not
    Health {
        /// Such as http://127.0.0.1:3000/health/ready
        url: String,
    },
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// Create an account; its password is read from standard input
    Add {
        #[arg(long)]
        email: String,
        #[arg(long, value_enum, default_value = "customer")]
        role: AccountRole,
        #[arg(long, default_value = "New")]
        first_name: String,
        #[arg(long, default_value = "Account")]
        last_name: String,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AccountRole {
    Customer,
    Admin,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// List the dead letters: events that a consumer could not handle
    Dead,
    /// Replay dead letters to their consumers
    Replay {
        /// The id of the dead letter to replay
        #[arg(required_unless_present = "all")]
        id: Option<u64>,
        /// Replay all of them
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct DoctorArgs {
    /// The shop's databases [default: $STOA_DATA_DIR or ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
struct UpArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Databases and development secrets [default: $STOA_DATA_DIR or ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Start with empty databases that are deleted on exit
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
}

#[derive(Debug, Args)]
struct RouterArgs {
    /// Supergraph SDL, as `stoa schema compose` and other composers write it
    #[arg(long, value_name = "FILE")]
    supergraph: PathBuf,
    /// Reach a subgraph elsewhere than the supergraph says
    #[arg(long = "subgraph-url", value_name = "NAME=URL")]
    subgraph_urls: Vec<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
}

#[derive(Debug, Args)]
struct SubgraphArgs {
    /// Which service
    #[arg(value_enum)]
    name: ServiceName,
    /// Where to listen [default: 127.0.0.1, port 3001 to 3004 in the order above]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Compose subgraphs into a supergraph, or report every error
    Compose {
        /// A subgraph: its name, its SDL file and, after @, its URL
        #[arg(long = "subgraph", value_name = "NAME=FILE[@URL]", required = true)]
        subgraphs: Vec<String>,
        /// Where to write the supergraph [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// How to print errors and hints; as JSON they are all that is printed
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Print a query's plan, without executing it
    Plan {
        /// Supergraph SDL
        #[arg(long, value_name = "FILE")]
        supergraph: PathBuf,
        /// A file with the query
        #[arg(long, value_name = "FILE")]
        query: PathBuf,
        /// Which operation, if the file has several
        #[arg(long, value_name = "NAME")]
        operation: Option<String>,
        /// The variables, as a JSON object: @skip and @include read them
        #[arg(long, value_name = "JSON")]
        variables: Option<String>,
        /// A label of a progressive @override that is on
        #[arg(long = "label", value_name = "LABEL")]
        labels: Vec<String>,
    },
    /// Print a service's SDL, or the supergraph
    Print {
        /// Which service; none for the supergraph
        #[arg(value_enum)]
        name: Option<ServiceName>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Runs a command until it is done, or until the process is asked to stop.
///
/// # Errors
/// What went wrong, as one sentence.
pub async fn run(cli: Cli) -> Result<(), Error> {
    let command = cli.command.unwrap_or(Command::Up(cli.up));
    let telemetry = match &command {
        Command::Up(_) => Telemetry::init("up"),
        Command::Router(_) => Telemetry::init("router"),
        Command::Subgraph(args) => Telemetry::init(args.name.as_str()),
        Command::Migrate => Telemetry::init("migrate"),
        Command::Doctor(_) => Telemetry::init("doctor"),
        Command::Events { .. } => Telemetry::init("events"),
        Command::Users { .. } => Telemetry::init("users"),
        Command::Schema { .. } | Command::Health { .. } => Telemetry::default(),
    };
    // Boxed: a future of all commands is too deep for the compiler to lay out.
    let done = Box::pin(run_command(command)).await;
    telemetry.shutdown().await;
    done
}

async fn run_command(command: Command) -> Result<(), Error> {
    match command {
        Command::Up(args) => Box::pin(run_up(args)).await,
        Command::Router(args) => {
            let settings = Settings::from_env(data_dir())?;
            let sdl = std::fs::read_to_string(&args.supergraph).map_err(|error| {
                Error::failed(format!("cannot read {}", args.supergraph.display()), error)
            })?;
            let listener = bind(args.listen).await?;
            roles::router(
                &settings,
                &sdl,
                &args.subgraph_urls,
                listener,
                stop_signal(),
            )
            .await
        }
        Command::Subgraph(args) => {
            let settings = Settings::from_env(data_dir())?;
            let address = args
                .listen
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], args.name.default_port())));
            let listener = bind(address).await?;
            roles::subgraph(&settings, args.name, listener, stop_signal()).await
        }
        Command::Schema { command } => match command {
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
                print!("{}", schema::print(name).await?);
                Ok(())
            }
        },
        Command::Migrate => services::migrate(&Settings::from_env(data_dir())?).await,
        Command::Users { command } => users(command).await,
        Command::Doctor(args) => {
            let settings = Settings::from_env(args.data_dir.unwrap_or_else(data_dir))?;
            if doctor::run(&settings).await? {
                return Ok(());
            }
            Err(Error::failed(
                "stock, payments and orders are not consistent",
                "the lines above say what and where; nothing was changed",
            ))
        }
        Command::Events { command } => {
            let settings = Settings::from_env(data_dir())?;
            match command {
                EventsCommand::Dead => events::list_dead_letters(&settings).await,
                EventsCommand::Replay { id, .. } => events::replay(&settings, id).await,
            }
        }
        Command::Health { url } => health(&url).await,
    }
}

async fn run_up(args: UpArgs) -> Result<(), Error> {
    // Dropped last: an ephemeral shop deletes its folder when it has stopped.
    let ephemeral = args.ephemeral.then(up::Ephemeral::create).transpose()?;
    let folder = match &ephemeral {
        Some(ephemeral) => ephemeral.path().to_owned(),
        None => args.data_dir.unwrap_or_else(data_dir),
    };
    let settings = Settings::from_env(folder)?;
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
async fn users(command: UsersCommand) -> Result<(), Error> {
    let UsersCommand::Add {
        email,
        role,
        first_name,
        last_name,
    } = command;
    let failed = |cause: &dyn std::fmt::Display| Error::failed("cannot make the account", cause);
    if std::io::stdin().is_terminal() {
        eprintln!("Password (it is shown as you type; at least 10 characters), then Enter:");
    }
    let mut password = String::new();
    std::io::stdin()
        .read_line(&mut password)
        .map_err(|error| failed(&error))?;
    let settings = Settings::from_env(data_dir())?;
    let (service, app) = services::users(&settings, &StartupListener::default()).await?;
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
            println!(
                "created {} as {}",
                account.email,
                role.as_str().to_lowercase()
            );
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
        println!("{text}");
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
