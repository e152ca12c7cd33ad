//! Standard output is data, standard error is talk.
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use contextvm::core::Printable;
use serde::Serialize;

use crate::args::{Color, Global};
use crate::problem::{Code, Problem};

/// Keeps standard output for one purpose: whatever else writes to it from now on reaches standard error.
#[cfg(unix)]
pub(crate) fn claim_stdout() -> Result<tokio::fs::File, Problem> {
    use std::os::fd::AsFd as _;
    let claim = || {
        let real = std::io::stdout().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdout(std::io::stderr())?;
        Ok(tokio::fs::File::from_std(real.into()))
    };
    claim().map_err(|error: std::io::Error| {
        Problem::internal(format!("standard output could not be kept apart: {error}"))
    })
}

/// Takes standard output as it is.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it fails on other systems")]
pub(crate) fn claim_stdout() -> Result<tokio::io::Stdout, Problem> {
    Ok(tokio::io::stdout())
}

/// Writes data to standard output, one locked write per piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) json: bool,
    terminal: bool,
    /// What was written last did not end its line.
    open: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: std::io::stdout().is_terminal(), open: false }
    }

    /// Whether the output goes somewhere else than to a terminal.
    pub(crate) const fn is_file(&self) -> bool {
        !self.terminal
    }

    /// Notes that somebody else has written a text to standard output.
    pub(crate) fn wrote(&mut self, text: &str) {
        if !text.is_empty() {
            self.open = !text.ends_with('\n');
        }
    }

    /// Ends a line that was begun with [`Self::wrote`].
    pub(crate) fn end_line(&mut self) -> Result<(), Problem> {
        if core::mem::take(&mut self.open) { self.text("\n") } else { Ok(()) }
    }

    /// Writes a text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Problem> {
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| {
            let gone = error.kind() == std::io::ErrorKind::BrokenPipe;
            let code = if gone { Code::BrokenPipe } else { Code::Internal };
            Problem::new(code, format!("the output could not be written: {error}"))
        })
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Problem> {
        self.text(&format!("{line}\n"))
    }

    /// Writes a document as one line of JSON.
    pub(crate) fn document(&mut self, document: &impl Serialize) -> Result<(), Problem> {
        let text = serde_json::to_string(document).map_err(|error| Problem::internal(error.to_string()))?;
        self.line(&text)
    }

    /// Writes text of somebody else: as it is into a file or pipe, made harmless on a terminal.
    pub(crate) fn foreign(&mut self, text: &str) -> Result<(), Problem> {
        self.end_line()?;
        if self.terminal {
            for line in text.lines() {
                self.line(&harmless(line))?;
            }
            Ok(())
        } else if text.ends_with('\n') {
            self.text(text)
        } else {
            self.line(text)
        }
    }
}

/// Makes a text that comes in pieces harmless for a terminal: its lines stay lines.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// A carriage return came last; with a line feed behind it, it ends a line.
    returned: bool,
}

impl Pieces {
    /// Returns what to write for the next piece.
    pub(crate) fn next(&mut self, piece: &str) -> String {
        let mut shown = String::with_capacity(piece.len());
        for part in piece.split_inclusive('\n') {
            if core::mem::take(&mut self.returned) && part != "\n" {
                shown.push_str(&harmless("\r"));
            }
            let (line, end) = part.strip_suffix('\n').map_or((part, ""), |line| (line, "\n"));
            let (line, returned) = line.strip_suffix('\r').map_or((line, false), |line| (line, true));
            shown.push_str(&harmless(line));
            shown.push_str(end);
            self.returned = returned && end.is_empty();
        }
        shown
    }
}

/// Escapes what could move the cursor or hide text; tabs and backslashes stay.
fn harmless(line: &str) -> String {
    let shown = |piece: &str| {
        piece.split('\\').map(|part| Printable(part).to_string()).collect::<Vec<_>>().join("\\")
    };
    line.split('\t').map(shown).collect::<Vec<_>>().join("\t")
}

/// Says things to a person on standard error, as loud as was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    level: i16,
    color: bool,
    bars: bool,
}

impl Talk {
    pub(crate) fn new(global: &Global) -> Self {
        let level = i16::from(global.verbose) - i16::from(global.quiet);
        let bars = level >= 0 && !global.json && std::io::stderr().is_terminal();
        Self { level, color: colored(global.color), bars }
    }

    /// Says something that everybody hears who did not ask for silence.
    pub(crate) fn say(&self, line: &str) {
        if self.level >= 0 {
            Self::write(line);
        }
    }

    /// Says a headline.
    pub(crate) fn headline(&self, line: &str) {
        if self.color {
            self.say(&format!("\u{1b}[1m{line}\u{1b}[0m"));
        } else {
            self.say(line);
        }
    }

    /// Whether a person looks at standard error who wants to see how far things are.
    pub(crate) const fn shows_bars(&self) -> bool {
        self.bars
    }

    /// Says the same things, without bars: something else is being written to the terminal.
    pub(crate) const fn without_bars(self) -> Self {
        Self { bars: false, ..self }
    }

    /// Whether details were asked for.
    pub(crate) const fn is_detailed(&self) -> bool {
        self.level >= 1
    }

    /// Says something that is heard with `-v`.
    pub(crate) fn detail(&self, line: &str) {
        if self.level >= 1 {
            Self::write(line);
        }
    }

    /// Says what somebody could be harmed by not knowing; only `-qq` silences it.
    pub(crate) fn warn(&self, line: &str) {
        if self.level >= -1 {
            Self::write(line);
        }
    }

    /// Says something that must be heard, whatever was asked for.
    pub(crate) fn insist(line: &str) {
        Self::write(line);
    }

    fn write(line: &str) {
        // There is nowhere else to say it.
        let _unwritten = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// Whether a person can be asked something.
pub(crate) fn someone_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a person, who says yes or anything else.
pub(crate) fn confirm(question: &str) -> Result<bool, Problem> {
    let mut error = std::io::stderr().lock();
    let asked = error.write_all(question.as_bytes()).and_then(|()| error.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    read.map_err(|error| Problem::internal(format!("nobody could be asked: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn colored(color: Color) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto => set("CLICOLOR_FORCE") || std::io::stderr().is_terminal(),
    }
}

/// Sends logs to standard error; what the environment says in CVM_LOG wins over `-v` and `-q`.
pub(crate) fn start_logging(global: &Global) {
    let level = i16::from(global.verbose) - i16::from(global.quiet);
    let filter = match level {
        i16::MIN..=-2 => "off",
        -1 => "error",
        // What becomes of announcements is told by those who publish them.
        0 => "off,contextvm=warn,contextvm_server::announce=error,cvm=warn",
        1 => "warn,contextvm=info,cvm=info",
        2 => "info,contextvm=debug,cvm=debug",
        3..=i16::MAX => "debug,contextvm=trace,cvm=trace",
    };
    let filter = std::env::var("CVM_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(level >= 2)
        .finish();
    // Nobody else sets one in this process.
    let _already = tracing::subscriber::set_global_default(subscriber);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor_but_keeps_its_shape() {
        assert_eq!(harmless("C:\\dir\ta"), "C:\\dir\ta");
        let shown = harmless("a\u{1b}[2Jb\u{202e}c");
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
    }

    #[test]
    fn pieces_show_what_the_whole_text_shows() {
        let text = "a\r\nb\tc\r\n\n\\ \u{1b}[2J\rd\r\re\r";
        let whole = Pieces::default().next(text);
        assert_eq!(whole, "a\nb\tc\n\n\\ \\u{1b}[2J\\rd\\r\\re");
        for at in 1..text.len() {
            let mut pieces = Pieces::default();
            let (one, two) = text.split_at(at);
            assert_eq!(pieces.next(one) + &pieces.next("") + &pieces.next(two), whole, "{at}");
        }
    }
}
