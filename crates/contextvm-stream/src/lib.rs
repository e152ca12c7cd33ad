//! Open streams (CEP-41) as machines.
#![no_std]
extern crate alloc;
