//! One pull from beginning to end: resolve, choose, fetch all layers at once, hand over what is verified.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::base::error::chain;
use crate::domain::image::{Digest, Layer, LayerDescriptor};

use super::content::{Content, IngestError, Lease};
use super::error::PullError;
use super::manifest::{self, Compression, Config, Found, Link, Manifest, ManifestError, Platform};
use super::reference::Reference;
use super::registry::error::RegistryError;
use super::registry::{Document, MAX_DOCUMENT, Session};
use super::unpack::{Budget, Order};
use super::verify::digest_of;
use super::{KnownLayers, Pulled, fetch};

/// Most indexes in one another (yardstick R3).
const MAX_NESTING: usize = 4;

/// What a pull works with.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) reference: Reference,
    /// Hosts to ask, in order.
    pub(super) sessions: Vec<Arc<Session>>,
    pub(super) content: Arc<Content>,
    /// Layers in flight, over all pulls.
    pub(super) slots: Arc<Semaphore>,
}

/// What the reference stands for.
struct Resolved {
    /// Digest of the first document, which is what `name@digest` names.
    digest: Digest,
    index_json: Option<Vec<u8>>,
    manifest_json: Vec<u8>,
    manifest: Manifest,
}

/// A layer to be had.
struct Job {
    lease: Lease,
    descriptor: LayerDescriptor,
    order: Order,
}

impl Pull {
    /// Does it all.
    pub(super) async fn run(self, known: &dyn KnownLayers) -> Result<Pulled, PullError> {
        let host = Platform::host();
        let resolved = self.resolve(&host).await?;
        let Resolved {
            digest,
            index_json,
            manifest_json,
            manifest,
        } = resolved;
        let Manifest { config: link, layers } = manifest;
        let config_json = self.small_blob(&link).await?;
        let config = manifest::config(&config_json, layers.len(), &host)
            .map_err(|source| self.unusable(format!("configuration {}", link.digest), source))?;
        let Config { diff_ids, image } = config;
        let jobs: Vec<Job> = diff_ids
            .iter()
            .zip(&layers)
            .map(|(diff_id, (descriptor, compression))| Job {
                lease: self.content.lease(diff_id, known.layer(diff_id)),
                descriptor: descriptor.clone(),
                order: order(diff_id, descriptor, *compression),
            })
            .collect();
        let leases: Vec<Lease> = jobs.iter().map(|job| job.lease.clone()).collect();
        let reference = self.reference.clone();
        Arc::new(self).fetch_all(jobs).await?;
        let layers_here = leases.iter().map(finished).collect::<Result<_, _>>()?;
        Ok(Pulled {
            id: link.digest,
            tag: reference.tagged(),
            digest: reference.digested(&digest),
            config_json,
            config: image,
            manifest_json,
            index_json,
            layers: layers_here,
            descriptors: layers.into_iter().map(|(descriptor, _)| descriptor).collect(),
        })
    }

    fn unusable(&self, document: String, source: ManifestError) -> PullError {
        PullError::Document {
            image: self.reference.to_string(),
            document,
            source,
        }
    }

    async fn resolve(&self, host: &Platform) -> Result<Resolved, PullError> {
        let (document, digest) = self.first_document().await?;
        let what = |digest: &Digest| format!("manifest {digest}");
        let mut found = manifest::parse(&document.bytes, &document.content_type, None)
            .map_err(|source| self.unusable(what(&digest), source))?;
        let mut bytes = document.bytes;
        let mut index_json = None;
        let mut visited = HashSet::from([digest.clone()]);
        loop {
            let index = match found {
                Found::Manifest(manifest) => {
                    return Ok(Resolved {
                        digest,
                        index_json,
                        manifest_json: bytes,
                        manifest,
                    });
                }
                Found::Index(index) => index,
            };
            let link = index
                .choose(host)
                .map_err(|source| self.unusable("index".to_owned(), source))?;
            if !visited.insert(link.digest.clone()) || visited.len() > MAX_NESTING + 1 {
                return Err(PullError::Nesting {
                    image: self.reference.to_string(),
                });
            }
            let document = self.linked_manifest(link).await?;
            found = manifest::parse(&document.bytes, &document.content_type, Some(&link.media_type))
                .map_err(|source| self.unusable(what(&link.digest), source))?;
            // The first index is the one that the image's digest is of.
            let outer = std::mem::replace(&mut bytes, document.bytes);
            index_json.get_or_insert(outer);
        }
    }

    async fn first_document(&self) -> Result<(Document, Digest), PullError> {
        let selector = self.reference.selector();
        let wanted = self.reference.digest();
        let mut last = None;
        for session in &self.sessions {
            let may = if wanted.is_some() {
                session.pulls()
            } else {
                session.resolves()
            };
            if !may {
                continue;
            }
            let outcome = match session.manifest(selector).await {
                Err(source) => Err(self.unavailable(source)),
                Ok(document) => {
                    let digest = digest_of(&document.bytes);
                    let claimed = document.claimed.as_ref().map(|text| text.parse::<Digest>());
                    // Other algorithms than ours may be claimed; they prove nothing and disprove nothing.
                    let promise = wanted.cloned().or(claimed.and_then(Result::ok));
                    match promise {
                        Some(expected) if expected != digest => {
                            Err(self.wrong(session, "manifest", expected.to_string(), digest.to_string()))
                        }
                        Some(_) | None => Ok((document, digest)),
                    }
                }
            };
            match outcome {
                Ok(found) => return Ok(found),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.no_host(if wanted.is_some() { "pull" } else { "resolve" })))
    }

    async fn linked_manifest(&self, link: &Link) -> Result<Document, PullError> {
        self.check_small("manifest", link)?;
        let mut last = None;
        for session in self.sessions.iter().filter(|session| session.pulls()) {
            match session.manifest(link.digest.as_str()).await {
                Err(source) => last = Some(self.unavailable(source)),
                Ok(document) => match self.check(session, "manifest", link, &document) {
                    Ok(()) => return Ok(document),
                    Err(error) => last = Some(error),
                },
            }
        }
        Err(last.unwrap_or_else(|| self.no_host("pull")))
    }

    async fn small_blob(&self, link: &Link) -> Result<Vec<u8>, PullError> {
        self.check_small("configuration", link)?;
        let mut last = None;
        for session in self.sessions.iter().filter(|session| session.pulls()) {
            match session.small_blob(&link.digest).await {
                Err(source) => last = Some(self.unavailable(source)),
                Ok(document) => match self.check(session, "configuration", link, &document) {
                    Ok(()) => return Ok(document.bytes),
                    Err(error) => last = Some(error),
                },
            }
        }
        Err(last.unwrap_or_else(|| self.no_host("pull")))
    }

    fn check_small(&self, kind: &'static str, link: &Link) -> Result<(), PullError> {
        if link.size <= MAX_DOCUMENT {
            return Ok(());
        }
        Err(self.unavailable(RegistryError::TooBig {
            host: self.reference.registry().to_owned(),
            what: format!("{kind} {}", link.digest),
            limit: MAX_DOCUMENT,
        }))
    }

    fn check(&self, session: &Session, kind: &'static str, link: &Link, got: &Document) -> Result<(), PullError> {
        let found = digest_of(&got.bytes);
        if found == link.digest && got.bytes.len() as u64 == link.size {
            return Ok(());
        }
        let expected = format!("{} of {} bytes", link.digest, link.size);
        Err(self.wrong(session, kind, expected, format!("{found} of {} bytes", got.bytes.len())))
    }

    fn wrong(&self, session: &Session, kind: &'static str, expected: String, found: String) -> PullError {
        PullError::WrongDocument {
            image: self.reference.to_string(),
            host: session.host(),
            kind,
            expected,
            found,
        }
    }

    fn unavailable(&self, source: RegistryError) -> PullError {
        PullError::Registry {
            image: self.reference.to_string(),
            source,
        }
    }

    fn no_host(&self, capability: &'static str) -> PullError {
        PullError::NoHost {
            registry: self.reference.registry().to_owned(),
            capability,
        }
    }

    /// All layers at once; the first failure ends the others (a dropped set aborts its tasks).
    async fn fetch_all(self: Arc<Self>, jobs: Vec<Job>) -> Result<(), PullError> {
        let budget = Arc::new(Budget::default());
        let mut running = JoinSet::new();
        for job in jobs {
            running.spawn(Arc::clone(&self).fetch_layer(job, Arc::clone(&budget)));
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|_| self.cancelled())??;
        }
        Ok(())
    }

    async fn fetch_layer(self: Arc<Self>, job: Job, budget: Arc<Budget>) -> Result<(), PullError> {
        let Job {
            lease,
            descriptor,
            order,
        } = job;
        // First the layer's turn, then a slot: who waits for another pull's layer takes no slot from others.
        let turn = lease.turn().await;
        if lease.layer().is_some() {
            return Ok(());
        }
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| self.cancelled())?;
        let mut held = (lease, turn, slot);
        let mut hosts = self.sessions.as_slice();
        loop {
            let (to, from) = mpsc::channel(fetch::CHANNEL);
            let (order, budget) = (order.clone(), Arc::clone(&budget));
            // Lease, turn and slot end with the thread, not with this future, which may be dropped before.
            let unpacking = tokio::task::spawn_blocking(move || {
                let result = held.0.ingest(fetch::Pieces::new(from), &order, &budget);
                (result, held)
            });
            let sent = fetch::send(hosts, &descriptor, to).await;
            let (ingested, back) = unpacking.await.map_err(|_| self.cancelled())?;
            held = back;
            let source = match (sent, ingested) {
                (_, Ok(_)) => return Ok(()),
                (Err(Some(source)), Err(_)) => return Err(self.unavailable(source)),
                (Err(None), Err(_)) => return Err(self.no_host("pull")),
                (Ok(_), Err(IngestError::Store(error))) => return Err(error),
                (Ok(giver), Err(IngestError::Unpack(source))) => {
                    hosts = &hosts[giver + 1..];
                    source
                }
            };
            // A host that gave wrong bytes does not speak for the hosts after it.
            let another = source.is_of_bytes() && hosts.iter().any(|session| session.pulls());
            if !another {
                return Err(PullError::Layer {
                    image: self.reference.to_string(),
                    digest: descriptor.digest,
                    source,
                });
            }
            tracing::warn!(image = %self.reference, layer = %descriptor.digest, error = chain(&source), "trying the next host");
        }
    }

    fn cancelled(&self) -> PullError {
        PullError::Cancelled {
            image: self.reference.to_string(),
        }
    }
}

fn order(diff_id: &Digest, descriptor: &LayerDescriptor, compression: Compression) -> Order {
    Order {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        compression,
        diff_id: diff_id.clone(),
    }
}

fn finished(lease: &Lease) -> Result<Layer, PullError> {
    let layer = lease.layer().ok_or_else(|| lease.gone())?;
    lease.keep();
    Ok(layer)
}
