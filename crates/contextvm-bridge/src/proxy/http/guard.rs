//! Who may talk to the front at all: checks of `Host`, `Origin` and the bearer token, before anything else is read.
use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::HttpOptions;
use super::reply::Refusal;

/// Names of this machine that no name server can give to somebody else.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Refuses requests that a foreign page may have made (DNS rebinding): both `Host` and `Origin` must be known.
///
/// Returns the origin whose scripts may read the answer.
pub(super) fn check_sender(parts: &Parts, options: &HttpOptions) -> Result<Option<HeaderValue>, Refusal> {
    let refuse = |what| Err(Refusal::new(StatusCode::FORBIDDEN, what));
    let mut authorities =
        parts.headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let is_known = match (authorities.next(), authorities.next()) {
        (Some(host), None) => is_own(host, options),
        (None, _) | (_, Some(_)) => false,
    };
    if !is_known || parts.uri.authority().is_some_and(|authority| !is_own(authority.as_str(), options)) {
        return refuse("this host name is not served here");
    }
    let mut origins = parts.headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(None),
        (Some(origin), None) => {
            let text = origin.to_str().unwrap_or_default();
            if options.origins.iter().any(|listed| listed.eq_ignore_ascii_case(text)) {
                Ok(Some(origin.clone()))
            } else if is_loopback_origin(text) {
                Ok(None)
            } else {
                refuse("this origin is not allowed")
            }
        }
        (Some(_), Some(_)) => refuse("more than one origin"),
    }
}

/// Refuses requests without the token, if there is one.
pub(super) fn check_token(headers: &HeaderMap, options: &HttpOptions) -> Result<(), Refusal> {
    let Some(token) = &options.token else { return Ok(()) };
    let mut offered = headers.get_all(header::AUTHORIZATION).iter();
    let offered = match (offered.next(), offered.next()) {
        (Some(offered), None) => offered.to_str().ok().and_then(|offered| offered.split_once(' ')),
        (None, _) | (_, Some(_)) => None,
    };
    match offered {
        Some((scheme, offered)) if scheme.eq_ignore_ascii_case("bearer") && token.is(offered.trim()) => {
            Ok(())
        }
        _ => Err(Refusal::unauthorized()),
    }
}

/// Whether this asks what a page of another origin may do.
pub(super) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn is_own(authority: &str, options: &HttpOptions) -> bool {
    let Some(name) = name_of(authority) else { return false };
    let is_bound = || {
        let ip = options.address.ip();
        let named = name.trim_matches(['[', ']']).parse::<IpAddr>();
        !ip.is_unspecified() && named.is_ok_and(|named| named == ip)
    };
    let is = |listed: &str| listed.eq_ignore_ascii_case(name) || listed.eq_ignore_ascii_case(authority);
    LOOPBACK.iter().any(|loopback| is(loopback))
        || options.hosts.iter().any(|listed| is(listed))
        || is_bound()
}

fn is_loopback_origin(origin: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let name = authority.and_then(name_of);
    name.is_some_and(|name| LOOPBACK.iter().any(|loopback| loopback.eq_ignore_ascii_case(name)))
}

/// Returns the name in `name`, `name:port`, `[address]` or `[address]:port`.
fn name_of(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (name, port) = authority.split_at_checked(end)?;
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    let is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_good && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::SecretToken;
    use super::*;
    use axum::http::Request;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/mcp");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn options() -> HttpOptions {
        HttpOptions::new("127.0.0.1:7312".parse().unwrap())
            .with_host("mcp.example.com")
            .with_origin("https://app.example.com")
    }

    fn lets_in(headers: &[(&str, &str)]) -> bool {
        check_sender(&parts(headers), &options()).is_ok()
    }

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1:7312",
            "[::1]",
            "[::1]:80",
            "mcp.example.com:443",
            "localhost:",
        ] {
            assert!(lets_in(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example.com",
            "localhost.evil.com",
            "localhost:80:80",
            "localhost:x",
            "localhost@evil.com",
            "127.0.0.1.evil.com",
            "[::1",
            "[::1]x",
            "::1",
            "127.0.0.2",
            "0.0.0.0",
            "",
            ":80",
        ] {
            assert!(!lets_in(&[("host", host)]), "{host}");
        }
        assert!(!lets_in(&[]));
        assert!(!lets_in(&[("host", "localhost"), ("host", "localhost")]));
        let absolute = Request::builder().uri("http://evil.com/mcp").header("host", "localhost");
        assert!(check_sender(&absolute.body(()).unwrap().into_parts().0, &options()).is_err());
    }

    #[test]
    fn the_bound_address_is_served_unless_it_stands_for_all() {
        let bound = HttpOptions::new("192.0.2.7:1".parse().unwrap());
        assert!(check_sender(&parts(&[("host", "192.0.2.7:1")]), &bound).is_ok());
        let every = HttpOptions::new("0.0.0.0:1".parse().unwrap());
        assert!(check_sender(&parts(&[("host", "0.0.0.0:1")]), &every).is_err());
        assert!(check_sender(&parts(&[("host", "192.0.2.7:1")]), &every).is_err());
    }

    #[test]
    fn only_loopback_pages_and_listed_origins_are_let_in() {
        let with = |origin| [("host", "localhost"), ("origin", origin)];
        for origin in
            ["http://localhost:6274", "https://127.0.0.1", "http://[::1]:3000", "https://App.example.com"]
        {
            assert!(lets_in(&with(origin)), "{origin}");
        }
        for origin in [
            "null",
            "http://evil.com",
            "http://localhost.evil.com",
            "https://app.example.com:1",
            "file://localhost",
            "",
        ] {
            assert!(!lets_in(&with(origin)), "{origin}");
        }
        assert!(!lets_in(&[
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("origin", "http://localhost")
        ]));
        let readable = |origin| check_sender(&parts(&with(origin)), &options()).unwrap();
        assert!(readable("https://app.example.com").is_some());
        assert!(readable("http://localhost").is_none());
    }

    #[test]
    fn the_token_is_asked_for_when_there_is_one() {
        let options = options().with_token(SecretToken::new("t0ken").unwrap());
        let lets_in = |values: &[&str]| {
            let headers: Vec<(&str, &str)> = values.iter().map(|value| ("authorization", *value)).collect();
            check_token(&parts(&headers).headers, &options).is_ok()
        };
        assert!(lets_in(&["Bearer t0ken"]) && lets_in(&["bearer  t0ken"]));
        for refused in ["t0ken", "Basic t0ken", "Bearer", "Bearer ", "Bearer t0ken2", "Bearer T0ken"] {
            assert!(!lets_in(&[refused]), "{refused}");
        }
        assert!(!lets_in(&[]) && !lets_in(&["Bearer t0ken", "Bearer t0ken"]));
        assert!(check_token(&parts(&[]).headers, &super::HttpOptions::new(options.address)).is_ok());
    }
}
