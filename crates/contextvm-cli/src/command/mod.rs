//! One module per command.
pub(crate) mod call;
pub(crate) mod ctl;
pub(crate) mod demo;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod serve;
