//! Plain HTTP on the relay's port: the NIP-11 document, and one line for everything else.
use crate::RelayOptions;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the message around an event takes at most, bytes.
const AROUND_EVENT: usize = 256;
/// Longest request head that is looked at, bytes.
const MAX_HEAD: usize = 8 * 1024;
/// How long a client may take over its request head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Pause between two looks at an unfinished head.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What the first bytes of a connection ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A websocket upgrade; nothing was consumed.
    Websocket,
    /// The NIP-11 document.
    Document,
    /// A CORS preflight.
    Preflight,
    /// A GET or HEAD of anything else.
    Page,
    /// Another method.
    Other,
}

/// Looks at the request head without consuming it; `None` when it never completes.
pub(crate) async fn look(stream: &TcpStream) -> Option<(Asked, usize)> {
    let looking = async {
        let mut buffer = vec![0_u8; MAX_HEAD];
        loop {
            let count = stream.peek(&mut buffer).await.ok().filter(|count| *count > 0)?;
            let head = buffer.get(..count)?;
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                return Some((asked(&String::from_utf8_lossy(head.get(..end)?)), end + 4));
            }
            if count >= MAX_HEAD {
                return None;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(HEAD_TIME, looking).await.ok().flatten()
}

fn asked(head: &str) -> Asked {
    let mut lines = head.lines();
    let method = lines.next().and_then(|line| line.split(' ').next()).unwrap_or_default();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_ascii_lowercase()))
        .collect();
    let has = |name: &str, part: &str| headers.iter().any(|(key, value)| key == name && value.contains(part));
    match method {
        "GET" if has("upgrade", "websocket") => Asked::Websocket,
        "GET" | "HEAD" if has("accept", "application/nostr+json") => Asked::Document,
        "GET" | "HEAD" => Asked::Page,
        "OPTIONS" => Asked::Preflight,
        _ => Asked::Other,
    }
}

/// Answers a plain HTTP request whose head has `head` bytes, and ends the connection.
pub(crate) async fn answer(mut stream: TcpStream, asked: Asked, head: usize, options: &RelayOptions) {
    let mut consumed = vec![0_u8; head];
    if stream.read_exact(&mut consumed).await.is_err() {
        return;
    }
    let without_body = consumed.starts_with(b"HEAD ");
    let (status, kind, body) = match asked {
        Asked::Document => ("200 OK", "application/nostr+json", document(options)),
        Asked::Page => (
            "200 OK",
            "text/plain; charset=utf-8",
            format!("{}: a Nostr relay, use a websocket\n", options.name),
        ),
        Asked::Preflight => ("204 No Content", "text/plain; charset=utf-8", String::new()),
        Asked::Websocket | Asked::Other => {
            ("405 Method Not Allowed", "text/plain; charset=utf-8", "method not allowed\n".to_owned())
        }
    };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nAccess-Control-Allow-Origin: *\r\n\
         Access-Control-Allow-Headers: *\r\nAccess-Control-Allow-Methods: GET, HEAD, OPTIONS\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if !without_body {
        response.push_str(&body);
    }
    // The client may be gone already; there is nobody left to tell.
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn document(options: &RelayOptions) -> String {
    if let Some(document) = &options.document {
        return document.clone();
    }
    let mut nips = vec![1, 9, 11];
    if options.auth {
        nips.push(42);
    }
    let mut document = serde_json::json!({
        "name": options.name,
        "description": "An embedded in-memory relay for demonstrations, development and tests.",
        "supported_nips": nips,
        "software": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "limitation": {
            // What is longer is read and refused: what counts is what is taken.
            "max_message_length": options.max_event.saturating_add(AROUND_EVENT),
            "max_content_length": options.max_event,
            "max_subscriptions": options.max_subscriptions,
            "max_filters": options.max_filters,
            "max_limit": options.max_limit,
            "default_limit": options.max_limit,
            "max_subid_length": crate::filter::MAX_SUBSCRIPTION_ID,
            "auth_required": options.auth,
            "payment_required": false,
            "restricted_writes": options.auth || !options.refused_kinds.is_empty(),
        },
    });
    let window = [("created_at_lower_limit", options.max_age), ("created_at_upper_limit", options.max_ahead)];
    if let Some(limitation) = document.get_mut("limitation").and_then(serde_json::Value::as_object_mut) {
        limitation.extend(
            window.into_iter().filter_map(|(name, most)| Some((name.to_owned(), most?.as_secs().into()))),
        );
    }
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_head_says_what_is_asked() {
        let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUPGRADE: WebSocket";
        assert_eq!(asked(head), Asked::Websocket);
        assert_eq!(asked("GET / HTTP/1.1\r\naccept: application/nostr+json, */*"), Asked::Document);
        assert_eq!(asked("HEAD / HTTP/1.1"), Asked::Page);
        assert_eq!(asked("OPTIONS / HTTP/1.1"), Asked::Preflight);
        assert_eq!(asked("POST / HTTP/1.1\r\nUpgrade: websocket"), Asked::Other);
        assert_eq!(asked(""), Asked::Other);
    }
}
