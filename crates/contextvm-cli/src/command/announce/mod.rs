//! `cvm announce`: what is public about a server.
mod delete;
mod publish;
mod show;

use crate::args::{Announce, AnnounceCommand, Global};
use crate::output::{Out, Talk};
use crate::problem::Problem;

pub(crate) async fn run(
    options: &Announce,
    global: &Global,
    out: &mut Out,
    talk: Talk,
) -> Result<(), Problem> {
    match &options.command {
        AnnounceCommand::Show { server } => Box::pin(show::run(server.as_deref(), global, out, &talk)).await,
        AnnounceCommand::Publish(options) => Box::pin(publish::run(options, global, out, talk)).await,
        AnnounceCommand::Delete(options) => Box::pin(delete::run(options, global, out, &talk)).await,
    }
}
