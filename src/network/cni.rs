//! CNI (containernetworking spec 1.1 and older): runs the plugins of the first configuration list in a directory,
//! chains their results, and undoes in reverse order. The list a pod was attached with is kept with its attachment, so
//! that teardown does not depend on files that may have changed.

mod bandwidth;
mod config;
mod plugin;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::{Attach, Detach, NetworkError, NotReady};
use crate::base::error::chain;
use crate::domain::network::Attachment;
use config::NetworkList;
use plugin::{Call, Invocation, Plugins};

/// How often the configuration directory is looked at: a network's agent writes there long after the daemon started.
const RESCAN: Duration = Duration::from_secs(2);

/// The CNI driver.
#[derive(Debug)]
pub(super) struct Cni {
    conf_dir: PathBuf,
    plugins: Plugins,
    /// The last look at the directory; Status answers from it.
    current: Mutex<Result<Arc<NetworkList>, NotReady>>,
}

impl Cni {
    pub(super) fn open(conf_dir: PathBuf, bin_dirs: Vec<PathBuf>) -> Arc<Self> {
        let current = Mutex::new(Err(NotReady {
            reason: "NetworkPluginNotReady",
            message: String::new(),
        }));
        let cni = Arc::new(Self {
            conf_dir,
            plugins: Plugins { bin_dirs },
            current,
        });
        let _told_by_status = cni.rescan();
        tokio::spawn(watch(Arc::downgrade(&cni)));
        cni
    }

    /// Looks at the directory again; returns what it holds now.
    fn rescan(&self) -> Result<Arc<NetworkList>, NetworkError> {
        let found = config::first_in(&self.conf_dir).and_then(|list| {
            for plugin in &list.plugins {
                self.plugins.find(plugin, &list.name)?;
            }
            Ok(Arc::new(list))
        });
        let for_status = match &found {
            Ok(list) => Ok(Arc::clone(list)),
            Err(error) => Err(NotReady {
                reason: "NetworkPluginNotReady",
                message: chain(error),
            }),
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = for_status;
        found
    }

    pub(super) fn check(&self) -> Result<(), NetworkError> {
        self.rescan().map(drop)
    }

    pub(super) fn ready(&self) -> Result<(), NotReady> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .map(drop)
    }

    /// As [`Cni::rescan`], where its disk may stall: off the async workers.
    async fn look(self: &Arc<Self>) -> Result<Arc<NetworkList>, NetworkError> {
        let cni = Arc::clone(self);
        super::blocking(move || cni.rescan()).await
    }

    pub(super) async fn attach(self: &Arc<Self>, attach: &Attach) -> Result<Attachment, NetworkError> {
        let list = self.look().await?;
        let invocation = Invocation::of_attach(attach)?;
        list.can_do(&invocation)?;
        match self.add(&list, &invocation).await {
            Ok(attachment) => Ok(attachment),
            Err(cause) => {
                // The spec asks for DEL after a failed ADD; what DEL says is no news to the caller.
                if let Err(left) = self.delete(&list, &invocation, None).await {
                    tracing::warn!(pod = %attach.pod, error = chain(&left), "CNI DEL after a failed ADD failed as well");
                }
                Err(cause)
            }
        }
    }

    async fn add(&self, list: &NetworkList, invocation: &Invocation) -> Result<Attachment, NetworkError> {
        let mut result: Option<Value> = None;
        for plugin in &list.plugins {
            let call = Call {
                command: "ADD",
                list,
                plugin,
                invocation,
                previous: result.as_ref(),
            };
            result = self.plugins.run(call).await?.or(result);
        }
        let last = list.plugins.last().map(config::PluginConfig::kind).unwrap_or_default();
        let answer = |problem: &str| NetworkError::Answer {
            plugin: last.to_owned(),
            command: "ADD",
            problem: problem.to_owned(),
        };
        let result = result.ok_or_else(|| answer("no result"))?;
        let ips = config::addresses(&result);
        if ips.is_empty() {
            return Err(answer(
                "no IP address; a pod needs one (check the network's ipam section)",
            ));
        }
        Ok(Attachment {
            ips,
            cni_result: result.to_string(),
            cni_config: list.raw.to_string(),
        })
    }

    pub(super) async fn detach(self: &Arc<Self>, detach: &Detach) -> Result<(), NetworkError> {
        let list = match detach
            .attachment
            .as_ref()
            .filter(|attachment| !attachment.cni_config.is_empty())
        {
            Some(attachment) => Arc::new(config::parse_stored(&attachment.cni_config)?),
            None => match self.look().await {
                Ok(list) => list,
                // Attached to nothing we know of, with no configuration to undo: nothing was ever done.
                Err(NetworkError::NoConfig(_)) => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let result = detach
            .attachment
            .as_ref()
            .and_then(|attachment| serde_json::from_str(&attachment.cni_result).ok());
        self.delete(&list, &Invocation::of_detach(detach), result.as_ref())
            .await
    }

    async fn delete(
        &self,
        list: &NetworkList,
        invocation: &Invocation,
        result: Option<&Value>,
    ) -> Result<(), NetworkError> {
        let mut outcome = Ok(());
        for plugin in list.plugins.iter().rev() {
            let call = Call {
                command: "DEL",
                list,
                plugin,
                invocation,
                previous: result,
            };
            // One failing plugin must not keep the others from cleaning up; the first failure is reported.
            if let Err(error) = self.plugins.run(call).await {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }
}

async fn watch(cni: Weak<Cni>) {
    let mut tick = interval(RESCAN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(cni) = cni.upgrade() else { return };
        let before = cni.ready();
        let _told_by_status = cni.look().await;
        let after = cni.ready();
        if before != after {
            match after {
                Ok(()) => tracing::info!("the CNI network is ready"),
                Err(why) => tracing::warn!(error = %why.message, "the CNI network is not ready"),
            }
        }
    }
}

/// For the fuzz targets: reads `text` as everything that comes from a CNI file or plugin.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(text: &str) {
    let _list = config::parse_stored(text);
    if let Ok(result) = serde_json::from_str(text) {
        let _addresses = config::addresses(&result);
    }
}

#[cfg(test)]
mod tests;
