//! copepod's own shim service (`copepod.shim.v1.Shim`), generated from `proto/shim/shim.proto`: what containerd's task
//! API lacks. Async, for ttrpc.

pub use generated::shim::{
    ExecRequest, ExecResponse, KillExecRequest, KillExecResponse, ReopenLogRequest, ReopenLogResponse, WaitExecRequest,
    WaitExecResponse,
};
pub use generated::shim_ttrpc::{Shim, ShimClient, create_shim};

mod generated {
    #![allow(unreachable_pub, missing_debug_implementations, reason = "generated code")]
    include!(concat!(env!("OUT_DIR"), "/shim/mod.rs"));
}
