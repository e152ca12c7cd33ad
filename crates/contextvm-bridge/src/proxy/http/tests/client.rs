//! A small HTTP client that can do what a good one would not: break off, read slowly, lie in its headers.
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::sse::{Event, Parser};

/// A request that is not sent yet.
#[derive(Clone)]
pub(super) struct Call {
    address: SocketAddr,
    head: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// An answer whose body is still to be read.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    socket: TcpStream,
    buffer: Vec<u8>,
    /// What is left of the body, if its length was declared.
    left: Option<usize>,
    parser: Parser,
    events: VecDeque<Event>,
}

impl Call {
    pub(super) fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\n");
        let call = Self { address, head, headers: Vec::new(), body: None };
        call.with("host", &format!("localhost:{}", address.port()))
    }

    /// Sets a header; an empty value takes it away.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|header| header.0 != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Adds a header, whether it is there or not.
    pub(super) fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self.with("content-type", "application/json").with("accept", "application/json, text/event-stream")
    }

    pub(super) async fn send(self) -> Answer {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let mut text = self.head;
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        if let Some(body) = &self.body {
            let is_chunked = self.headers.iter().any(|header| header.0 == "transfer-encoding");
            match is_chunked {
                true => write!(text, "\r\n{:x}\r\n{body}\r\n0\r\n", body.len()).unwrap(),
                false => write!(text, "content-length: {}\r\n\r\n{body}", body.len()).unwrap(),
            }
        }
        if self.body.is_none() || text.ends_with("0\r\n") {
            text.push_str("\r\n");
        }
        // The front may refuse before it has read everything.
        let _refused = socket.write_all(text.as_bytes()).await;
        Answer::read(socket).await
    }
}

impl Answer {
    async fn read(socket: TcpStream) -> Self {
        let mut answer = Self {
            status: 0,
            headers: BTreeMap::new(),
            socket,
            buffer: Vec::new(),
            left: None,
            parser: Parser::new(1 << 26),
            events: VecDeque::new(),
        };
        let end = loop {
            if let Some(at) = answer.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(answer.fill().await, "the connection ended before an answer");
        };
        let head: Vec<u8> = answer.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        answer.status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            answer.headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        answer.left = answer.headers.get("content-length").map(|length| length.parse().unwrap());
        if answer.status == 204 {
            answer.left = Some(0);
        }
        answer
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    async fn fill(&mut self) -> bool {
        let reading = self.socket.read_buf(&mut self.buffer);
        let read = timeout(Duration::from_secs(10), reading).await.expect("nothing came");
        read.is_ok_and(|read| read > 0)
    }

    /// Returns the next piece of the body.
    async fn piece(&mut self) -> Option<Vec<u8>> {
        match self.left {
            Some(0) => None,
            Some(left) => {
                while self.buffer.is_empty() {
                    assert!(self.fill().await, "the body broke off");
                }
                let piece: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
                self.left = Some(left - piece.len());
                Some(piece)
            }
            None => self.chunk().await,
        }
    }

    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let at = loop {
            match self.buffer.windows(2).position(|two| two == b"\r\n") {
                Some(at) => break at,
                None if self.fill().await => {}
                None => return None,
            }
        };
        let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        while self.buffer.len() < size + 2 {
            assert!(self.fill().await, "a chunk broke off");
        }
        let mut chunk: Vec<u8> = self.buffer.drain(..size + 2).collect();
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// Reads the body to its end.
    pub(super) async fn text(mut self) -> String {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await {
            text.extend(piece);
        }
        String::from_utf8(text).unwrap()
    }

    /// Reads the next event; `None` at the end of the stream.
    pub(super) async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let piece = self.piece().await?;
            self.events.extend(self.parser.push(&piece).unwrap());
        }
    }

    /// Reads the data of the next event that has any.
    pub(super) async fn data(&mut self) -> Option<String> {
        loop {
            let event = self.event().await?;
            if !event.data.is_empty() {
                return Some(event.data);
            }
        }
    }

    /// Reads a piece of the body as it is.
    pub(super) async fn raw(&mut self) -> Option<String> {
        self.piece().await.map(|piece| String::from_utf8(piece).unwrap())
    }
}
