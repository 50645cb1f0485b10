use super::*;
use crate::base::clock::Timestamp;
use crate::domain::image::ImageConfig;

fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

fn image(id: &Digest, tags: &[&str], digests: &[String], layers: &[Digest]) -> Image {
    Image {
        id: id.clone(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        digests: digests.iter().cloned().collect(),
        layers: layers.to_vec(),
        descriptors: vec![],
        config: ImageConfig::default(),
        size: 1,
        config_json: vec![],
        manifest_json: vec![],
        index_json: None,
        pulled_at: Timestamp(1),
    }
}

fn layer(diff_id: &Digest) -> Layer {
    Layer {
        diff_id: diff_id.clone(),
        dir: "l".into(),
        bytes: 1,
        inodes: 1,
    }
}

fn found(images: &Images, text: &str) -> Option<ImageId> {
    images.find(text).unwrap().map(|image| image.id.clone())
}

#[test]
fn contract_9_2_every_alias_means_the_image() {
    let id = digest('a');
    let by_digest = format!("docker.io/library/busybox@{}", digest('e'));
    let images = Images::new(
        vec![image(
            &id,
            &["docker.io/library/busybox:latest"],
            std::slice::from_ref(&by_digest),
            &[],
        )],
        vec![],
    );
    for alias in [
        id.as_str(),
        id.hex(),
        &id.hex()[..12],
        &id.as_str()[..20],
        "busybox",
        "busybox:latest",
        "docker.io/busybox",
        "docker.io/library/busybox:latest",
        &by_digest,
        &format!("busybox@{}", digest('e')),
        &format!("busybox:other@{}", digest('e')),
    ] {
        assert_eq!(found(&images, alias), Some(id.clone()), "{alias}");
    }
    for stranger in ["alpine", "busybox:1.36", digest('b').as_str(), "b", "aa", "BUSYBOX"] {
        assert_eq!(found(&images, stranger), None, "{stranger}");
    }
    assert_eq!(images.find("").unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
fn a_prefix_of_two_ids_is_ambiguous() {
    let other: Digest = format!("sha256:{}{}", "a".repeat(32), "b".repeat(32)).parse().unwrap();
    let images = Images::new(
        vec![image(&digest('a'), &[], &[], &[]), image(&other, &[], &[], &[])],
        vec![],
    );
    assert_eq!(images.find("aaaa").unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(found(&images, &"a".repeat(33)), Some(digest('a')));
}

#[test]
fn a_moved_tag_follows_its_new_image_also_when_the_old_one_goes() {
    let tag = "docker.io/library/x:latest";
    let images = Images::new(vec![image(&digest('a'), &[tag], &[], &[])], vec![]);
    images.put(image(&digest('b'), &[tag], &[], &[]));
    images.put(image(&digest('a'), &[], &[], &[]));
    assert_eq!(found(&images, "x"), Some(digest('b')));
    images.remove(&digest('a'));
    assert_eq!(found(&images, "x"), Some(digest('b')));
    images.remove(&digest('b'));
    assert_eq!(found(&images, "x"), None);
}

#[test]
fn layers_are_held_while_a_container_is_built() {
    let l = digest('c');
    let with = image(&digest('a'), &[], &[], std::slice::from_ref(&l));
    let images = Images::new(vec![with.clone()], vec![layer(&l)]);
    let (first, _) = images.hold(&with).unwrap();
    let (second, layers) = images.hold(&with).unwrap();
    assert_eq!(layers.len(), 1);
    images.remove(&with.id);
    drop(first);
    assert!(images.take_unneeded(|_| {}).is_empty());
    drop(second);
    assert!(images.take_unneeded(|listed| listed.extend([l.clone()])).is_empty());
    assert_eq!(images.take_unneeded(|_| {}), [layer(&l)]);
    assert_eq!(images.hold(&with).unwrap_err().kind(), Kind::NotFound);
}
