//! Images and the file system they fill (contract §9).

use copepod_proto::cri as wire;

use crate::domain::image::Image;
use crate::ops::answer::FsInfo;

/// An image, the same under each of its names.
pub(in crate::cri) fn image(image: &Image) -> wire::Image {
    let (uid, username) = user(&image.config.user);
    wire::Image {
        id: image.id.to_string(),
        repo_tags: image.tags.iter().cloned().collect(),
        repo_digests: image.digests.iter().cloned().collect(),
        // Clients refuse 0, and an image without layers still has its documents.
        size: image.size.max(1),
        uid: uid.map(|value| wire::Int64Value { value }),
        username,
        spec: None,
        pinned: false,
    }
}

/// The file system of images. Containers' layers are on the same one.
pub(in crate::cri) fn fs_info(infos: &[FsInfo]) -> wire::ImageFsInfoResponse {
    wire::ImageFsInfoResponse {
        image_filesystems: infos.iter().map(usage).collect(),
        container_filesystems: Vec::new(),
    }
}

fn usage(info: &FsInfo) -> wire::FilesystemUsage {
    let FsInfo {
        mountpoint,
        bytes,
        inodes,
        at,
    } = info;
    wire::FilesystemUsage {
        timestamp: at.as_nanos(),
        fs_id: Some(wire::FilesystemIdentifier {
            mountpoint: mountpoint.display().to_string(),
        }),
        used_bytes: Some(wire::UInt64Value { value: *bytes }),
        inodes_used: Some(wire::UInt64Value { value: *inodes }),
    }
}

/// `USER` without its group, as a number or a name. A number that no user id can be is told as neither: told as a
/// name it would be looked up in the image, and kubelet's runAsNonRoot evaded (CVE-2026-46680).
fn user(user: &str) -> (Option<i64>, String) {
    let name = user.split(':').next().unwrap_or_default();
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    match name.parse::<i32>() {
        Ok(uid) if digits => (Some(i64::from(uid)), String::new()),
        Ok(_) | Err(_) if digits => (None, String::new()),
        Ok(_) | Err(_) => (None, name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2026_46680_users_are_numbers_or_names_or_neither() {
        let table = [
            ("1002", Some(1002), ""),
            ("www-data", None, "www-data"),
            ("1003:users", Some(1003), ""),
            ("www-data:100", None, "www-data"),
            ("", None, ""),
            (":0", None, ""),
            ("4294967296", None, ""),
            ("2147483648", None, ""),
            ("-1", None, "-1"),
            ("+0", None, "+0"),
            ("0x0", None, "0x0"),
        ];
        for (text, uid, name) in table {
            assert_eq!(user(text), (uid, name.to_owned()), "{text}");
        }
    }
}
