//! Images as requests name them (contract §9). What a reference means is the image room's knowledge; here it is
//! bounded and made of characters that references have.

use copepod_proto::cri as wire;

use super::{invalid, pod, quoted, required, text};
use crate::domain::container::ImageRequest;
use crate::domain::error::Failure;
use crate::domain::image::Credentials;
use crate::ops::request::PullImage;

/// Name, tag and digest together, generously.
const MAX: usize = 1024;

/// Longest secret taken: bearer tokens grow with their claims, but they travel in one HTTP header.
const MAX_SECRET: usize = 64 * 1024;

/// The image of a container.
///
/// # Errors
/// It is missing, empty, or no reference.
pub(super) fn request(field: &str, message: Option<wire::ImageSpec>) -> Result<ImageRequest, Failure> {
    let wire::ImageSpec {
        image,
        annotations,
        user_specified_image,
        runtime_handler,
        image_ref: _, // what the client was told by PullImage; `image` is what counts
    } = required(field, message)?;
    Ok(ImageRequest {
        image: reference(&format!("{field}.image"), image)?,
        user_specified: text::line(&format!("{field}.user_specified_image"), user_specified_image, MAX)?,
        annotations: text::labels(&format!("{field}.annotations"), annotations)?,
        runtime_handler: pod::handler(&format!("{field}.runtime_handler"), runtime_handler)?,
    })
}

/// The image of ImageStatus or RemoveImage.
///
/// # Errors
/// As [`request`].
pub(in crate::cri) fn named(message: Option<wire::ImageSpec>) -> Result<String, Failure> {
    request("image", message).map(|request| request.image)
}

/// The name of a ListImages filter; nothing and empty let everything pass.
///
/// # Errors
/// It is no reference.
pub(in crate::cri) fn list(request: wire::ListImagesRequest) -> Result<Option<String>, Failure> {
    let wire::ListImagesRequest { filter } = request;
    let wire::ImageFilter { image } = filter.unwrap_or_default();
    match image {
        Some(wire::ImageSpec {
            image,
            annotations: _,
            user_specified_image: _,
            runtime_handler: _,
            image_ref: _,
        }) if image.is_empty() => Ok(None),
        Some(image) => self::request("filter.image", Some(image)).map(|request| Some(request.image)),
        None => Ok(None),
    }
}

/// PullImage.
///
/// # Errors
/// The reference is none, or a credential could not be sent.
pub(in crate::cri) fn pull(request: wire::PullImageRequest) -> Result<PullImage, Failure> {
    let wire::PullImageRequest {
        image,
        auth,
        sandbox_config: _, // for policies by namespace, of which there are none
    } = request;
    Ok(PullImage {
        image: named(image)?,
        auth: credentials("auth", auth)?,
    })
}

/// `None` when nothing is in it: an empty message is how clients say "anonymous".
fn credentials(field: &str, message: Option<wire::AuthConfig>) -> Result<Option<Credentials>, Failure> {
    let Some(message) = message else { return Ok(None) };
    let wire::AuthConfig {
        username,
        password,
        auth,
        server_address,
        identity_token,
        registry_token,
    } = message;
    let credentials = Credentials {
        username: secret(&format!("{field}.username"), username)?,
        password: secret(&format!("{field}.password"), password)?,
        // Some clients pad it with NUL bytes.
        auth: secret(&format!("{field}.auth"), auth.trim_end_matches('\0').to_owned())?,
        server_address: secret(&format!("{field}.server_address"), server_address)?,
        identity_token: secret(&format!("{field}.identity_token"), identity_token)?,
        registry_token: secret(&format!("{field}.registry_token"), registry_token)?,
    };
    Ok((credentials != Credentials::default()).then_some(credentials))
}

/// What becomes part of a header; never repeated in a message.
fn secret(field: &str, secret: String) -> Result<String, Failure> {
    if secret.len() > MAX_SECRET {
        return Err(invalid(
            field,
            format!("is {} bytes long", secret.len()),
            "64 KiB are allowed",
        ));
    }
    if secret.chars().any(char::is_control) {
        return Err(invalid(field, "has a control character", "check how it was encoded"));
    }
    Ok(secret)
}

fn reference(field: &str, text: String) -> Result<String, Failure> {
    if text.is_empty() {
        return Err(invalid(field, "is empty", "name an image"));
    }
    if text.len() > MAX {
        return Err(invalid(
            field,
            format!("is {} bytes long", text.len()),
            "an image name has at most 1024",
        ));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@[]+".contains(&byte);
    let climbs = text.split('/').any(|part| matches!(part, "." | ".."));
    if !text.bytes().all(plain) || climbs {
        return Err(invalid(
            field,
            format!("is {}", quoted(&text)),
            "write it as registry/repository:tag or @digest",
        ));
    }
    Ok(text)
}
