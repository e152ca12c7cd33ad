//! `cvm serve`: MCP servers on Nostr.
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use contextvm::core::Printable;
use contextvm::server::announce::AnnounceTargets;
use contextvm::server::{AnnounceOptions, Announcing, EncryptionMode, ServerHandle};
use contextvm_bridge::{CancellationToken, Gateway};
use serde::Serialize;

use crate::args::{Global, Serve};
use crate::fleet::board::{Board, State};
use crate::fleet::control::Control;
use crate::fleet::look::Look;
use crate::fleet::plan::Plan;
use crate::fleet::target::{self, shown};
use crate::fleet::{self, Fleet};
use crate::keys::npub;
use crate::output::{Out, Talk};
use crate::problem::Problem;
use crate::publication::{self, announcing};
use crate::signals;

/// The name of the one unit of a process without a file.
const ONLY: &str = "server";
/// How often the relays are looked at.
const WATCH: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    relays: &'a [String],
    /// Relays that the announcements go to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    announced: Vec<String>,
}

pub(crate) async fn run(options: &Serve, global: &Global, out: &mut Out, talk: Talk) -> Result<(), Problem> {
    let plan = Plan::new(options, global)?;
    let stop = signals::stop_on_signals();
    if options.publication.dry_run {
        return match &options.from {
            Some(path) => Box::pin(Fleet::new(plan, path, Board::default(), talk, stop).preview(out)).await,
            None => {
                let looked = Look { target: plan.target()?, keys: plan.chosen.keys.clone(), unit: None };
                let events = Box::pin(looked.events(&plan, talk, &stop)).await?;
                publication::show(&events, out)
            }
        };
    }
    let board = Board::default();
    let file = options.from.as_ref().map(|path| path.to_string_lossy().into_owned());
    let answering = match Control::open() {
        Ok(control) => Some(tokio::spawn(control.answer(board.clone(), file))),
        Err(problem) => {
            talk.say(&format!("cvm ctl cannot reach this process: {}", problem.message()));
            None
        }
    };
    let outcome = match &options.from {
        Some(path) => Box::pin(Fleet::new(plan, path, board, talk, stop).run(out)).await,
        None => Box::pin(one(&plan, &board, out, talk, stop)).await,
    };
    if let Some(answering) = answering {
        answering.abort();
        // Its end removes the socket's file.
        let _aborted = answering.await;
    }
    outcome
}

/// Serves the one server that the command line names.
async fn one(
    plan: &Plan,
    board: &Board,
    out: &mut Out,
    talk: Talk,
    stop: CancellationToken,
) -> Result<(), Problem> {
    let started = Instant::now();
    let target = plan.target()?;
    let shown = shown(&target);
    board.add(ONLY, shown.clone());
    let noted = plan.is_shared(&target).then(|| (board.clone(), ONLY.to_owned()));
    let gateway = plan.gateway(target, fleet::reporter(noted, String::new(), talk)).start();
    let gateway = tokio::select! {
        gateway = gateway => gateway.map_err(|error| target::not_started(&error, &shown))?,
        () = stop.cancelled() => return Ok(()),
    };
    let own = gateway.welcome().and_then(|welcome| welcome.name.clone());
    let listener = tokio::select! {
        listener = plan.listen(plan.chosen.keys.clone(), own) => listener?,
        () = stop.cancelled() => return Ok(()),
    };
    let handle = listener.handle();
    let public = Public::of(plan, &handle)?;
    let server = npub(&handle.public_key());
    board.change(ONLY, |unit| {
        unit.server.clone_from(&server);
        unit.pid = gateway.pid();
        unit.store = handle.status().store.map(|path| path.to_string_lossy().into_owned());
        unit.state = State::Ready;
    });
    banner(&Facts { plan, gateway: &gateway, shown: &shown, public: &public }, &handle, &talk);
    talk.say(&format!("ready in {:.1} s", started.elapsed().as_secs_f32()));
    if out.json {
        let (relays, announced) = (&plan.global.relays, public.urls());
        out.document(&Document { schema: "cvm.serve/1", server, pid: gateway.pid(), relays, announced })?;
    }
    let mut announcing = public.begin(&handle)?;
    let watching = tokio::spawn(watch(handle, board.clone(), talk));
    let telling = async {
        if let Some(announcing) = &mut announcing {
            announcing::tell(announcing, |line| talk.say(line)).await;
        }
        core::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = Box::pin(gateway.run(listener, stop)) => outcome,
        () = telling => Ok(()),
    };
    watching.abort();
    if let (Some(announcing), true) = (announcing, plan.options.unannounce_on_exit) {
        Box::pin(announcing::withdraw(announcing, |line| talk.say(line))).await;
    }
    outcome.map_err(|error| {
        let problem = Problem::internal(format!("the server has ended: {error}"));
        problem.fact(shown).hint("run the command by itself and look at what it says")
    })
}

/// Whether the server is announced, and where.
struct Public(Option<(AnnounceOptions, AnnounceTargets)>);

impl Public {
    fn of(plan: &Plan, handle: &ServerHandle) -> Result<Self, Problem> {
        let Some(options) = plan.announce_options()? else { return Ok(Self(None)) };
        let targets = options.targets(handle).map_err(|error| announcing::failed(&error))?;
        Ok(Self(Some((options, targets))))
    }

    fn begin(self, handle: &ServerHandle) -> Result<Option<Announcing>, Problem> {
        self.0.map(|(options, _)| announcing::begin(handle, options)).transpose()
    }

    fn urls(&self) -> Vec<String> {
        let targets = self.0.iter().flat_map(|(_, targets)| targets.all());
        targets.map(|url| url.to_string()).collect()
    }
}

impl fmt::Display for Public {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((options, targets)) = &self.0 else {
            return out.write_str("no (add --announce to be found)");
        };
        let mut what = vec!["server and lists"];
        if options.relay_list.unwrap_or(options.announce) {
            what.push("relay list");
        }
        if options.profile.is_some() {
            what.push("profile");
        }
        write!(out, "yes: {} go to {}", what.join(", "), announcing::intent(targets))
    }
}

/// What the banner tells.
struct Facts<'a> {
    plan: &'a Plan,
    gateway: &'a Gateway,
    shown: &'a str,
    public: &'a Public,
}

fn banner(facts: &Facts<'_>, handle: &ServerHandle, talk: &Talk) {
    let server = npub(&handle.public_key());
    let welcome = facts.gateway.welcome();
    let name = welcome.and_then(|welcome| welcome.name.as_deref()).unwrap_or("mcp server");
    let version = welcome.and_then(|welcome| welcome.version.as_deref()).unwrap_or_default();
    let shown = format!("{} {}", Printable::short(name, 60), Printable::short(version, 30));
    talk.headline(&format!("cvm serve  {}", shown.trim()));
    let kept = if facts.plan.chosen.ephemeral {
        "made for this run and then forgotten"
    } else {
        facts.plan.chosen.origin.as_str()
    };
    talk.say(&format!("  key       {server}   ({kept})"));
    let pid = facts.gateway.pid().map(|pid| format!("   pid {pid}")).unwrap_or_default();
    talk.say(&format!("  target    {}{pid}", facts.shown));
    for (at, (url, up)) in handle.status().relays.into_iter().enumerate() {
        let label = if at == 0 { "relays" } else { "      " };
        talk.say(&format!(
            "  {label}    {}  {}",
            Printable(&url),
            if up { "ok" } else { "not connected yet" }
        ));
    }
    let who = match facts.plan.allowed.as_deref() {
        None => "everybody who knows the key".to_owned(),
        Some([_]) => "1 key".to_owned(),
        Some(keys) => format!("{} keys", keys.len()),
    };
    let encryption = match facts.plan.encryption() {
        EncryptionMode::Required => "required",
        EncryptionMode::Optional => "optional",
        EncryptionMode::Disabled => "off",
    };
    talk.say(&format!("  access    {who}      encryption {encryption}"));
    let memory = match handle.status().store {
        Some(path) => Printable(&path.to_string_lossy()).to_string(),
        None => "until this process ends".to_owned(),
    };
    talk.say(&format!("  remembers {memory}"));
    talk.say(&format!("  public    {}", facts.public));
    let options = &facts.plan.options;
    if options.announce && facts.plan.chosen.ephemeral && !options.unannounce_on_exit {
        talk.say("            nobody can delete that once the key is forgotten (add --unannounce-on-exit)");
    }
    let relay = facts.plan.global.relays.first().map_or("", String::as_str);
    talk.say(&format!("  try it    cvm ls {server} -r {}", Printable(relay)));
}

/// Says when a relay comes or goes.
async fn watch(handle: ServerHandle, board: Board, talk: Talk) {
    let mut known: BTreeMap<String, bool> = handle.status().relays.into_iter().collect();
    loop {
        let status = handle.status();
        for (url, up) in &status.relays {
            if known.insert(url.clone(), *up) != Some(*up) {
                let state = if *up { "up" } else { "down; it is tried again" };
                talk.say(&format!("relay {} {state}", Printable(url)));
            }
        }
        board.watched(ONLY, status);
        tokio::time::sleep(WATCH).await;
    }
}
