use std::collections::HashMap;
use std::fs;

use super::*;
use archive::Archive;
use error::PullErrorKind;
use fake::Fake;
use server::{Answer, Asked, Server, answer};

pub(crate) mod archive;
pub(crate) mod fake;
pub(crate) mod server;

/// A puller with empty stores.
struct Home {
    dir: tempfile::TempDir,
    puller: Puller,
}

#[derive(Default)]
struct Known(HashMap<DiffId, Layer>);

impl KnownLayers for Known {
    fn layer(&self, diff_id: &DiffId) -> Option<Layer> {
        self.0.get(diff_id).cloned()
    }
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let puller = Puller::open(Config {
        config_dir: dir.path().join("certs.d"),
        layers: dir.path().join("layers"),
        ingest: dir.path().join("ingest"),
        max_concurrent_layers: 3,
    });
    Home {
        puller: puller.unwrap(),
        dir,
    }
}

impl Home {
    async fn pull(&self, reference: &str) -> Result<Pulled, PullError> {
        self.puller.pull(reference, None, &Known::default()).await
    }

    /// What is in the stores, once what is removed in the background is gone.
    async fn left(&self) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..200 {
            names.clear();
            for dir in ["layers", "ingest"] {
                let entries = fs::read_dir(self.dir.path().join(dir)).unwrap();
                names.extend(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
            }
            if !names.iter().any(|name| name.starts_with('.')) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        names
    }
}

fn two_layers() -> [Vec<u8>; 2] {
    let lower = Archive::default().dir("etc").file("etc/a", "lower").file("etc/b", "b");
    let upper = Archive::default().file("etc/.wh.b", "").file("etc/a", "upper");
    [lower.done(), upper.done()]
}

async fn serving(fake: Fake) -> Server {
    Server::start(move |asked| fake.answer(asked)).await
}

#[tokio::test]
async fn pulls_and_unpacks_an_image() {
    let server = serving(Fake::image(&two_layers())).await;
    let home = home();
    let name = format!("{}/team/app", server.address);
    let pulled = home.pull(&format!("{name}:1")).await.unwrap();
    assert_eq!(pulled.tag.as_deref(), Some(format!("{name}:1").as_str()));
    assert!(pulled.digest.starts_with(&format!("{name}@sha256:")));
    assert_eq!(
        (pulled.config.user.as_str(), pulled.config.env.as_slice()),
        ("7:8", &["A=b".to_owned()][..])
    );
    assert_eq!(pulled.layers.len(), 2);
    let upper = home.puller.layer_path(&pulled.layers[1]);
    assert_eq!(fs::read_to_string(upper.join("etc/a")).unwrap(), "upper");
    assert_eq!(home.left().await.len(), 2);
    // By digest, from the same registry: nothing but documents is fetched, and there is no tag.
    let known = Known(
        pulled
            .layers
            .iter()
            .map(|layer| (layer.diff_id.clone(), layer.clone()))
            .collect(),
    );
    let before = server.asked().len();
    let again = home.puller.pull(&pulled.digest, None, &known).await.unwrap();
    assert_eq!((again.id, again.tag, again.digest), (pulled.id, None, pulled.digest));
    assert_eq!(again.layers, pulled.layers);
    assert_eq!(server.asked().len() - before, 2);
}

mod failing;
mod sharing;
