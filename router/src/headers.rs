//! Which headers are forwarded between clients and subgraphs. A header that no
//! rule names is not forwarded.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The rules; without any, nothing is forwarded.
#[derive(Debug, Clone, Default)]
pub struct HeaderRules {
    /// Request headers, each to one subgraph or to all.
    pub request: Vec<(HeaderName, Option<String>)>,
    /// Cookies by name, each to one subgraph.
    pub cookies: Vec<(String, String)>,
    /// Response headers, each from one subgraph.
    pub response: Vec<(HeaderName, String)>,
}

impl HeaderRules {
    /// Copies the client's headers that a subgraph may receive to `out`.
    pub fn to_subgraph(&self, client: &HeaderMap, subgraph: &str, out: &mut HeaderMap) {
        for (name, only) in &self.request {
            if only.as_deref().is_none_or(|only| only == subgraph) {
                for value in client.get_all(name) {
                    out.append(name.clone(), value.clone());
                }
            }
        }
        let wanted: Vec<_> = self
            .cookies
            .iter()
            .filter(|(_, to)| to == subgraph)
            .collect();
        if wanted.is_empty() {
            return;
        }
        let pairs: Vec<&str> = client
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .map(str::trim)
            .filter(|pair| {
                pair.split_once('=')
                    .is_some_and(|(name, _)| wanted.iter().any(|(cookie, _)| cookie == name))
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&pairs.join("; "))
            && !pairs.is_empty()
        {
            out.insert(header::COOKIE, value);
        }
    }

    /// Copies the subgraph's headers that the client may receive to `out`.
    pub fn to_client(&self, subgraph: &str, from: &HeaderMap, out: &mut HeaderMap) {
        for (name, only) in &self.response {
            if only == subgraph {
                for value in from.get_all(name) {
                    out.append(name.clone(), value.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_passes() {
        let rules = HeaderRules {
            request: vec![(header::ACCEPT_LANGUAGE, None)],
            cookies: vec![("session".into(), "users".into())],
            response: vec![(header::SET_COOKIE, "users".into())],
        };
        let mut client = HeaderMap::new();
        client.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("de"));
        client.insert(header::AUTHORIZATION, HeaderValue::from_static("secret"));
        client.insert(
            header::COOKIE,
            HeaderValue::from_static("a=1; session=2; sessionx=3"),
        );
        let mut out = HeaderMap::new();
        rules.to_subgraph(&client, "users", &mut out);
        assert_eq!(out.len(), 2);
        assert_eq!(out[header::COOKIE], "session=2");
        let mut out = HeaderMap::new();
        rules.to_subgraph(&client, "orders", &mut out);
        assert_eq!(out.len(), 1);
        let mut answer = HeaderMap::new();
        answer.insert(header::SET_COOKIE, HeaderValue::from_static("x=y"));
        let mut out = HeaderMap::new();
        rules.to_client("orders", &answer, &mut out);
        assert!(out.is_empty());
        rules.to_client("users", &answer, &mut out);
        assert_eq!(out.len(), 1);
    }
}
