//! `cvm use`: a server on Nostr as a stdio server.
use std::time::Duration;

use contextvm_bridge::{Error, Notice, Proxy, Reporter};

use crate::args::{Global, Use};
use crate::connect;
use crate::output::Talk;
use crate::problem::{Code, Problem};
use crate::signals;

/// How long a host waits for an answer; it has a deadline of its own, and progress extends ours.
const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) async fn run(options: &Use, global: &Global, talk: Talk) -> Result<(), Problem> {
    if matches!(global.key.as_deref(), Some("stdin" | "-")) {
        let problem = Problem::new(
            Code::InvalidValue,
            "standard input carries the MCP host's messages and cannot carry a key",
        );
        return Err(problem.hint("--key me"));
    }
    let (mut client, ephemeral) = connect::options(global, connect::server(&options.server)?, TIMEOUT)?;
    client.config.stateless = options.stateless;
    client.config.answer_server_requests = true;
    if ephemeral {
        talk.detail("no key was given, so the server sees one that nobody knows");
    }
    let reporter = Reporter::new(move |notice| {
        let line = format!("cvm: {notice}");
        if *notice == Notice::Connected { talk.detail(&line) } else { talk.say(&line) }
    });
    let stop = signals::stop_on_signals();
    let proxy = Proxy::builder(client)
        .reporter(reporter)
        .hint("check the relay, or name another one: --relay wss://...");
    let run = proxy.build().run(tokio::io::stdin(), tokio::io::stdout(), stop);
    match Box::pin(run).await {
        // A host that stopped reading has ended; that is how hosts say goodbye, too.
        Ok(()) | Err(Error::Stream(_)) => Ok(()),
        Err(error) => Err(Problem::internal(error.to_string())),
    }
}
