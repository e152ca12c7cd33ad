//! Calls that take several rounds (2026-07-28): a result of kind `input_required` until everything asked for was answered.
use rmcp::ErrorData;
use rmcp::model::{
    ClientCapabilities, InputRequest, InputRequests, InputRequiredResult, InputResponses, RequestStateCodec,
};

use crate::fixtures::{FIXTURES, Rounds};

/// Seals the states; a fixture has no secrets.
const KEY: &[u8] = b"the conformance server keeps no secrets";

/// What a call that was made again comes to.
pub enum Round {
    /// The client has to answer this first.
    Ask(InputRequiredResult),
    /// Everything that was asked for is there.
    Done(InputResponses),
}

/// Decides a round of the tool or prompt `name`.
pub fn play(
    name: &str,
    responses: Option<InputResponses>,
    state: Option<&str>,
    capabilities: &ClientCapabilities,
) -> Result<Round, ErrorData> {
    let Some(Rounds { sealed, rounds }) = FIXTURES.rounds.get(name) else {
        return Ok(Round::Done(InputResponses::new()));
    };
    let codec = RequestStateCodec::new_unchecked(KEY);
    let at = match state.filter(|_| *sealed) {
        Some(state) => codec
            .open_json::<usize>(state)
            .map_err(|_| ErrorData::invalid_params("requestState was changed", None))?,
        None => 0,
    };
    let asked = |at: usize| -> Option<InputRequests> {
        let mut requests = rounds.get(at)?.clone();
        requests.retain(|_, request| allowed(request, capabilities));
        Some(requests)
    };
    let responses = responses.unwrap_or_default();
    let answered = asked(at)
        .is_some_and(|asked| asked.keys().all(|key| responses.get(key).is_some_and(|got| got.is_object())));
    let next = at + usize::from(answered);
    Ok(match asked(next) {
        Some(requests) => {
            let state = sealed.then(|| codec.seal(next.to_string().as_bytes()));
            Round::Ask(InputRequiredResult::new(Some(requests), state))
        }
        None => Round::Done(responses),
    })
}

fn allowed(request: &InputRequest, capabilities: &ClientCapabilities) -> bool {
    match request {
        InputRequest::Elicitation(_) => capabilities.elicitation.is_some(),
        InputRequest::CreateMessage(_) => capabilities.sampling.is_some(),
        InputRequest::ListRoots(_) => capabilities.roots.is_some(),
        _ => false,
    }
}
