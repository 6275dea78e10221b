//! How the router reaches subgraphs: for all of them, and for single ones.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use stoa_engine::{BreakerSettings, HttpSettings};
use stoa_runtime::settings::{Problems, SettingError, read};

use super::row::{Group as G, Setting, setting};

const IDLE: &str = "STOA_SUBGRAPH_IDLE";
const CONNECT_TIMEOUT: &str = "STOA_SUBGRAPH_CONNECT_TIMEOUT";
const TIMEOUT: &str = "STOA_SUBGRAPH_TIMEOUT";
const CONNECTIONS: &str = "STOA_SUBGRAPH_CONNECTIONS";
const HTTP2: &str = "STOA_SUBGRAPH_HTTP2";
const BREAKER: &str = "STOA_SUBGRAPH_BREAKER";

const TIMES: &str =
    "a time such as 4s or 500ms; NAME=TIME is for one subgraph; separated by commas";

/// The rows of the table.
pub const SETTINGS: &[Setting] = &[
    setting(
        G::Router,
        TIMEOUT,
        TIMES,
        "30s",
        "how long a subgraph may take to respond to a query or mutation",
    ),
    setting(
        G::Router,
        CONNECT_TIMEOUT,
        TIMES,
        "5s",
        "how long a connection to a subgraph may take to open",
    ),
    setting(
        G::Router,
        IDLE,
        TIMES,
        "4s",
        "how long an unused connection to a subgraph is kept; less than the subgraph, or a proxy before it, keeps it",
    ),
    setting(
        G::Router,
        CONNECTIONS,
        "1 to 100000; NAME=NUMBER is for one subgraph; separated by commas",
        "1000",
        "queries and mutations that a subgraph is sent at once; others wait",
    ),
    setting(
        G::Router,
        HTTP2,
        "names of subgraphs, separated by commas",
        "none",
        "subgraphs that speak HTTP/2 without TLS; with TLS it is negotiated",
    ),
    setting(
        G::Router,
        BREAKER,
        "off, or a share from 0.01 to 1; NAME=SHARE is for one subgraph; separated by commas",
        "off",
        "the share of failures in ten seconds at which a subgraph is left alone for five",
    ),
];

/// How the subgraphs are reached.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubgraphSettings {
    pub all: HttpSettings,
    /// By name, complete.
    pub own: HashMap<String, HttpSettings>,
}

/// Reads and checks the settings.
pub fn load(problems: &mut Problems) -> Option<SubgraphSettings> {
    let default = HttpSettings::default();
    let time = |longest| move |text: &str| time(text, longest);
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let timeout = values(problems, TIMEOUT, default.limits.timeout, time(minutes(60)));
    let connect = values(
        problems,
        CONNECT_TIMEOUT,
        default.connect_timeout,
        time(minutes(1)),
    );
    let idle = values(problems, IDLE, default.limits.idle, time(minutes(60)));
    let connections = values(problems, CONNECTIONS, default.connections, |text| {
        number(text, 1..=100_000)
    });
    let breaker = values(problems, BREAKER, default.breaker, breaker);
    let http2 = read(HTTP2).unwrap_or_default();
    let http2: Vec<&str> = items(&http2).collect();

    let (timeout, connect, idle) = (timeout?, connect?, idle?);
    let (connections, breaker) = (connections?, breaker?);
    let for_name = |name: &str| {
        let mut made = default;
        made.limits.timeout = timeout.of(name);
        made.limits.idle = idle.of(name);
        made.connect_timeout = connect.of(name);
        made.connections = connections.of(name);
        made.breaker = breaker.of(name);
        made.http2 = http2.contains(&name);
        made
    };
    let names = timeout
        .names()
        .chain(connect.names())
        .chain(idle.names())
        .chain(connections.names())
        .chain(breaker.names())
        .chain(http2.iter().copied());
    Some(SubgraphSettings {
        own: names
            .map(|name| (name.to_owned(), for_name(name)))
            .collect(),
        // No subgraph has an empty name.
        all: for_name(""),
    })
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// A value for all subgraphs, and values for single ones.
struct Values<T> {
    all: T,
    own: HashMap<String, T>,
}

impl<T: Copy> Values<T> {
    fn of(&self, name: &str) -> T {
        self.own.get(name).copied().unwrap_or(self.all)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.own.keys().map(String::as_str)
    }
}

fn values<T>(
    problems: &mut Problems,
    setting: &str,
    default: T,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Values<T>> {
    let text = read(setting).unwrap_or_default();
    let parsed = parse_values(&text, default, parse);
    problems.check(parsed.map_err(|problem| SettingError::new(setting, problem)))
}

fn parse_values<T>(
    text: &str,
    default: T,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Values<T>, String> {
    let mut all = None;
    let mut own = HashMap::new();
    for item in items(text) {
        match item.split_once('=') {
            Some((name, value)) => {
                let (name, value) = (name.trim(), value.trim());
                if own.insert(name.to_owned(), parse(value)?).is_some() {
                    return Err(format!("gives \"{name}\" twice"));
                }
            }
            None if all.is_some() => {
                return Err(format!(
                    "\"{item}\" is a second value for all subgraphs; NAME=VALUE is for one"
                ));
            }
            None => all = Some(parse(item)?),
        }
    }
    Ok(Values {
        all: all.unwrap_or(default),
        own,
    })
}

/// A time of at least a millisecond, such as 500ms or 4s.
fn time(text: &str, longest: Duration) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').unwrap_or_default(), 1_000),
    };
    let millis = digits.parse::<u64>().ok();
    millis
        .and_then(|count| count.checked_mul(unit))
        .map(Duration::from_millis)
        .filter(|time| !time.is_zero() && *time <= longest)
        .ok_or_else(|| format!("\"{text}\" is no time from 1ms to {}s", longest.as_secs()))
}

fn number(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!(
            "\"{text}\" is no number from {} to {}",
            range.start(),
            range.end()
        )
    })
}

fn breaker(text: &str) -> Result<Option<BreakerSettings>, String> {
    if text == "off" {
        return Ok(None);
    }
    let share = text
        .parse::<f64>()
        .ok()
        .filter(|share| (0.01..=1.0).contains(share));
    let share =
        share.ok_or_else(|| format!("\"{text}\" is neither \"off\" nor a share from 0.01 to 1"))?;
    Ok(Some(BreakerSettings {
        share,
        ..BreakerSettings::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_for_all_or_for_one() {
        let longest = Duration::from_secs(60);
        let parse = |text| parse_values(text, Duration::from_secs(9), |text| time(text, longest));
        let values = parse("5s, products=250ms,orders = 1s").unwrap();
        assert_eq!(values.of("users"), Duration::from_secs(5));
        assert_eq!(values.of("products"), Duration::from_millis(250));
        assert_eq!(values.of("orders"), Duration::from_secs(1));
        assert_eq!(parse("").unwrap().of("x"), Duration::from_secs(9));
        for wrong in [
            "5",
            "0s",
            "61s",
            "-1s",
            "1.5s",
            "a=",
            "5s,6s",
            "a=1s,a=2s",
            "ms",
            "5h",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_breaker_is_off_or_has_a_share() {
        assert_eq!(breaker("off"), Ok(None));
        assert_eq!(breaker("0.5"), Ok(Some(BreakerSettings::default())));
        for wrong in ["on", "0", "1.1", "NaN", ""] {
            assert!(breaker(wrong).is_err(), "{wrong}");
        }
        assert_eq!(number("7", 1..=9), Ok(7));
        assert!(number("0", 1..=9).is_err());
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let default = HttpSettings::default();
        let shown = |name| {
            SETTINGS
                .iter()
                .find(|row| row.name == name)
                .map(|row| row.default)
        };
        let same = |name, value: Duration| {
            let parsed = time(shown(name).unwrap(), Duration::from_secs(60));
            assert_eq!(parsed, Ok(value), "{name}");
        };
        same(TIMEOUT, default.limits.timeout);
        same(CONNECT_TIMEOUT, default.connect_timeout);
        same(IDLE, default.limits.idle);
        assert_eq!(shown(CONNECTIONS), Some(&*default.connections.to_string()));
        assert_eq!(default.breaker, None);
    }
}
