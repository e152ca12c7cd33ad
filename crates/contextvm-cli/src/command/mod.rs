//! One module per command.
pub(crate) mod announce;
pub(crate) mod call;
pub(crate) mod ctl;
pub(crate) mod demo;
pub(crate) mod discover;
pub(crate) mod inspect;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod relay_check;
pub(crate) mod review;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod version;
