//! A look at what a server would publish: it is started and asked, and no relay hears of it.
use contextvm::Keys;
use contextvm_bridge::{CancellationToken, Target};

use super::plan::Plan;
use super::target;
use crate::output::{Out, Talk};
use crate::problem::Problem;
use crate::publication::{self, announcing};

/// One server that is looked at.
pub(crate) struct Look {
    pub(crate) target: Target,
    pub(crate) keys: Keys,
    /// Its name in a file of many.
    pub(crate) unit: Option<String>,
}

impl Look {
    /// Shows the signed events that the plan would publish, with their relays.
    pub(crate) async fn show(
        self,
        plan: &Plan,
        out: &mut Out,
        talk: Talk,
        stop: &CancellationToken,
    ) -> Result<(), Problem> {
        let Self { target, keys, unit } = self;
        let Some(options) = plan.announce_options()? else {
            talk.say("nothing would be published: without --announce a server is found by nobody");
            return Ok(());
        };
        let shown = target::shown(&target);
        let before = unit.as_ref().map(|unit| format!("{unit}: ")).unwrap_or_default();
        let gateway = plan.gateway(target, super::reporter(None, before, talk)).start();
        let gateway = tokio::select! {
            gateway = gateway => gateway.map_err(|error| target::not_started(&error, &shown))?,
            () = stop.cancelled() => return Ok(()),
        };
        let own = gateway.welcome().and_then(|welcome| welcome.name.clone()).or_else(|| unit.clone());
        let listener = plan.offline(keys, own)?;
        let handle = listener.handle();
        let over = stop.child_token();
        let running = Box::pin(gateway.run(listener, over.clone()));
        let looking = async {
            let looked = Box::pin(announcing::preview(&handle, options)).await;
            over.cancel();
            looked
        };
        let (ended, looked) = tokio::join!(running, looking);
        let (outgoing, remarks) = looked?;
        publication::show(&outgoing, unit.as_deref(), out)?;
        remarks.iter().for_each(|remark| talk.say(remark));
        ended.map_err(|error| target::not_started(&error, &shown))
    }
}
