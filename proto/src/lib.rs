//! What crosses a process boundary of copepod, without behaviour: the CRI between its clients and the daemon, the
//! extra shim service and the bundle's files between daemon and shim.

pub mod bundle;
#[cfg(feature = "cri")]
pub mod cri;
#[cfg(feature = "shim")]
pub mod shim;
