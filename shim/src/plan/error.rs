//! Why a spec cannot be planned.

use super::ANNOTATION_INIT;
use super::spec::NamespaceKind;

/// Why no plan can be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PlanError {
    /// An OCI version that is not 1.x.
    #[error("config.json: ociVersion {version} is not supported; this runtime reads 1.x")]
    Version {
        /// As given.
        version: String,
    },
    /// Ignoring it would weaken or change the container.
    #[error("config.json: {field} is not supported by this runtime; leave it out")]
    Unsupported {
        /// JSON path.
        field: String,
    },
    /// Nothing to run.
    #[error("config.json: process.args names no program")]
    NoProgram,
    /// A path that must be absolute.
    #[error("config.json: {field} {path:?} is not an absolute path")]
    RelativePath {
        /// JSON path.
        field: &'static str,
        /// As given.
        path: String,
    },
    /// A path that climbs or names the root.
    #[error("config.json: mount destination {path:?} must lie below / and must not contain ..")]
    Destination {
        /// As given.
        path: String,
    },
    /// A mount onto or into procfs (CVE-2019-16884).
    #[error("config.json: a mount on {path:?} would replace part of /proc; only proc itself may be mounted there")]
    InsideProc {
        /// As given.
        path: String,
    },
    /// A mount option that this runtime does not have.
    #[error("config.json: mount {destination}: option {option:?} is not supported")]
    MountOption {
        /// Mount.
        destination: String,
        /// As given.
        option: String,
    },
    /// 4294967295.
    #[error("config.json: process.user: id 4294967295 is reserved")]
    ReservedId,
    /// Out of the kernel's range.
    #[error("config.json: process.oomScoreAdj {value} is outside -1000..=1000")]
    OomScore {
        /// As given.
        value: i32,
    },
    /// Cannot be passed to the kernel.
    #[error("config.json: {field} contains a NUL byte")]
    NulByte {
        /// JSON path.
        field: &'static str,
    },
    /// No such limit.
    #[error("config.json: process.rlimits: unknown limit {name:?}")]
    UnknownLimit {
        /// As given.
        name: String,
    },
    /// setrlimit would refuse.
    #[error("config.json: process.rlimits: the soft limit of {name} is above its hard limit")]
    SoftAboveHard {
        /// Limit.
        name: &'static str,
    },
    /// No such capability.
    #[error("config.json: process.capabilities: unknown capability {name:?}")]
    UnknownCapability {
        /// As given.
        name: String,
    },
    /// A kind given twice.
    #[error("config.json: linux.namespaces names {kind:?} twice")]
    NamespaceTwice {
        /// Kind.
        kind: NamespaceKind,
    },
    /// The host would be changed.
    #[error("config.json: {field} needs a {kind:?} namespace of the container's own")]
    NamespaceMissing {
        /// JSON path.
        field: String,
        /// Kind.
        kind: NamespaceKind,
    },
    /// Neither c, b nor p.
    #[error("config.json: linux.devices: {path}: unknown type {kind:?}")]
    DeviceType {
        /// Node.
        path: String,
        /// As given.
        kind: String,
    },
    /// A kernel parameter that no namespace confines, or a malformed one (CVE-2022-0811).
    #[error("config.json: linux.sysctl {key:?}: {reason}")]
    Sysctl {
        /// As given.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// A terminal without the filesystem it lives on.
    #[error("config.json: process.terminal needs a devpts mount on /dev/pts and a mount on /dev")]
    TerminalWithoutDevpts,
    /// No such propagation.
    #[error("config.json: linux.rootfsPropagation {value:?} is unknown")]
    Propagation {
        /// As given.
        value: String,
    },
    /// Only these are known.
    #[error("config.json: annotation {ANNOTATION_INIT}: {value:?} is unknown; only \"pause\" is")]
    Init {
        /// As given.
        value: String,
    },
}
