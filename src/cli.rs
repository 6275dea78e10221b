//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::service_name::ServiceName;
use crate::settings::table;

const EXAMPLES: &str = "\
Examples:
  stoa                                    the whole shop on http://127.0.0.1:3000
  stoa up --ephemeral                     the same, forgotten when it stops
  stoa router --supergraph graph.graphql  the router alone, over any federation graph
  stoa subgraph orders                    one service alone, on port 3003
  stoa doctor                             whether stock, money and orders add up
  stoa config check                       whether the settings are valid, and what is set
  stoa schema compose --subgraph a=a.graphql@http://127.0.0.1:4001 --out graph.graphql
";

/// What stands below the options in `--help`.
fn after_help() -> String {
    format!("{EXAMPLES}\n{}", table::help())
}

/// Stoa: a federated shop in one binary.
///
/// Without a command it runs everything: router, users, products, orders and
/// notifications, with an embedded database, event bus and cache.
#[derive(Debug, Parser)]
#[command(version, after_help = after_help())]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) up: UpArgs,
    /// The settings file [default: stoa.toml, if there is one]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
    Migrate(DataArgs),
    /// Manage accounts
    Users {
        #[command(subcommand)]
        command: UsersCommand,
    },
    /// Check that stock, payments and orders are consistent; fails if they are not
    Doctor(DataArgs),
    /// Manage events that could not be handled
    Events {
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Look at the settings
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Check that a running process is ready; fails if it is not
    Health {
        /// Such as http://127.0.0.1:3000/health/ready
        url: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UsersCommand {
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
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check every setting, and show which are set; fails if one is wrong
    Check {
        /// What the process would be: production must give what that needs
        #[arg(long, value_enum, default_value = "up")]
        role: RoleName,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Print the reference of all settings, as Markdown
    Docs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum RoleName {
    Up,
    Router,
    Users,
    Products,
    Orders,
    Notifications,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum AccountRole {
    Customer,
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List the dead letters: events that a consumer could not handle
    Dead(DataArgs),
    /// Replay dead letters to their consumers
    Replay {
        /// The id of the dead letter to replay
        #[arg(required_unless_present = "all")]
        id: Option<u64>,
        /// Replay all of them
        #[arg(long, conflicts_with = "id")]
        all: bool,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgs {
    /// The data folder [default: $STOA_DATA_DIR or ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000", value_parser = listen_address)]
    pub(crate) listen: SocketAddr,
    /// Databases and development secrets [default: $STOA_DATA_DIR or ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Start with empty databases that are deleted on exit
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) ephemeral: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RouterArgs {
    /// Supergraph SDL, as `stoa schema compose` and other composers write it
    #[arg(long, value_name = "FILE")]
    pub(crate) supergraph: PathBuf,
    /// Reach a subgraph elsewhere than the supergraph says
    #[arg(long = "subgraph-url", value_name = "NAME=URL")]
    pub(crate) subgraph_urls: Vec<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000", value_parser = listen_address)]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubgraphArgs {
    /// Which service
    #[arg(value_enum)]
    pub(crate) name: ServiceName,
    /// Where to listen [default: 127.0.0.1, port 3001 to 3004 in the order above]
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
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

/// An address to listen on: `5600` is a port on loopback, a host may be a name.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let found = text.to_socket_addrs().map_err(|error| {
        format!("it is neither a port (5600) nor HOST:PORT (localhost:5600): {error}")
    })?;
    // IPv4 first: that is what "localhost" means to most tools.
    let found: Vec<_> = found.collect();
    let chosen = found.iter().find(|address| address.is_ipv4());
    let chosen = chosen.or(found.first()).copied();
    chosen.ok_or_else(|| "the name has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_port_or_have_a_name() {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(listen_address("5600"), Ok(loopback(5600)));
        assert_eq!(listen_address("localhost:5600"), Ok(loopback(5600)));
        assert_eq!(listen_address("127.0.0.1:0"), Ok(loopback(0)));
        for wrong in ["", "70000", "localhost", "no.such.host.invalid:1"] {
            assert!(listen_address(wrong).is_err(), "{wrong}");
        }
    }
}
