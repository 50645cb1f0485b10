//! From root with everything to the plan's user with the plan's capabilities.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{self, CapabilitySet, CapabilitySets as KernelSets};

use super::InitError;
use super::channel::Channel;
use crate::plan::capability::{self, CapabilitySets};
use crate::plan::process::ProcessPlan;

/// Becomes the plan's user. `keep` stays permitted and in force until [`Final::give_up_rest`].
///
/// A capability that we do not hold ourselves cannot be given; it is left out and noted, as "all capabilities" means
/// the host's own set on a host that is itself confined.
///
/// # Errors
/// Names the step.
pub(crate) fn change(plan: &ProcessPlan, keep: u64, channel: &Channel) -> Result<Final, InitError> {
    let failed = |source| InitError::Capabilities { source };
    let held = thread::capabilities(None).map_err(failed)?.permitted.bits();
    let wanted = plan.capabilities;
    let missing = (wanted.permitted | wanted.bounding) & !held;
    if missing != 0 {
        channel.note(&format!(
            "not held by this runtime, so not given: {}",
            capability::names(missing).join(" ")
        ))?;
    }
    drop_bounding(wanted.bounding)?;
    // Changing from root to another user would empty the permitted set.
    thread::set_keep_capabilities(true).map_err(failed)?;
    become_user(plan)?;
    thread::set_keep_capabilities(false).map_err(failed)?;
    let last = Final { sets: wanted, held };
    last.set(keep)?;
    thread::clear_ambient_capability_set().map_err(failed)?;
    for number in bits(wanted.ambient & wanted.permitted & wanted.inheritable & held) {
        let name = capability::names(1 << number).first().copied().unwrap_or("capability");
        thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true).map_err(
            |source| InitError::Ambient {
                capability: name,
                source,
            },
        )?;
    }
    Ok(last)
}

/// The capabilities that the program gets.
#[derive(Debug)]
pub(crate) struct Final {
    sets: CapabilitySets,
    held: u64,
}

impl Final {
    /// Drops what was kept to install the filter. One system call, which the filter must allow.
    ///
    /// # Errors
    /// What capset(2) says.
    pub(crate) fn give_up_rest(&self) -> Result<(), InitError> {
        self.set(0)
    }

    fn set(&self, keep: u64) -> Result<(), InitError> {
        let permitted = self.sets.permitted & self.held;
        let keep = keep & self.held;
        let sets = KernelSets {
            effective: CapabilitySet::from_bits_retain((self.sets.effective & permitted) | keep),
            permitted: CapabilitySet::from_bits_retain(permitted | keep),
            inheritable: CapabilitySet::from_bits_retain(self.sets.inheritable & self.held),
        };
        thread::set_capabilities(None, sets).map_err(|source| InitError::Capabilities { source })
    }
}

/// Every capability that the kernel knows and the plan does not name.
fn drop_bounding(wanted: u64) -> Result<(), InitError> {
    for number in 0..64_u32 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if wanted & (1 << number) != 0 {
            continue;
        }
        match thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Beyond the last one that this kernel has.
            Err(Errno::INVAL) => break,
            Err(source) => {
                let name = capability::names(1 << number)
                    .first()
                    .copied()
                    .unwrap_or("a newer capability");
                return Err(InitError::Bounding {
                    capability: name,
                    source,
                });
            }
        }
    }
    Ok(())
}

fn become_user(plan: &ProcessPlan) -> Result<(), InitError> {
    let groups: Vec<Gid> = plan.groups.iter().copied().map(Gid::from_raw).collect();
    thread::set_thread_groups(&groups).map_err(|source| InitError::Groups { source })?;
    let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
    thread::set_thread_res_gid(gid, gid, gid)
        .and_then(|()| thread::set_thread_res_uid(uid, uid, uid))
        .map_err(|source| InitError::User {
            uid: plan.uid,
            gid: plan.gid,
            source,
        })
}

fn bits(set: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |number| set & (1 << number) != 0)
}
