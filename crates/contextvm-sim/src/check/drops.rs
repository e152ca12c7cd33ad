//! C13 for what is dropped: reasons that no world can give in which everybody keeps to the protocol.
use contextvm_core::Refusal;
use contextvm_crypto::OpenError;
use contextvm_engine::DropReason;

/// An event that is too old, which a clock may explain.
pub(super) const AGE: &str = "age";

/// Whether somebody broke the protocol, or one of our endpoints is wrong.
pub(super) const fn is_fault(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::Malformed
            | DropReason::Id
            | DropReason::WrongAuthor
            | DropReason::Audience
            | DropReason::Kind
            | DropReason::Budget
    )
}

/// Returns a fixed name for why an event could not be opened.
pub(crate) const fn why(error: &OpenError) -> &'static str {
    match error {
        OpenError::TooLarge { .. } => "size",
        OpenError::NotAWrap(_) => "outer kind",
        OpenError::Nip44(_) => "encryption",
        OpenError::NotAnEvent => "no event inside",
        OpenError::Refused(Refusal::Kind(_)) => "kind",
        OpenError::Refused(Refusal::Audience) => "audience",
        OpenError::Refused(Refusal::Age { .. }) => AGE,
        OpenError::Refused(Refusal::Id) => "id",
        OpenError::Refused(Refusal::Signature) => "signature",
        _ => "something else",
    }
}
