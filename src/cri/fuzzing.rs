//! Doors of this room for the fuzz targets below `tests/fuzz`; in no other build.

use copepod_proto::cri as wire;
use prost::Message;

use super::decode;

/// The bytes of a RunPodSandbox and of a CreateContainer request.
pub fn requests(bytes: &[u8]) {
    if let Ok(request) = wire::RunPodSandboxRequest::decode(bytes) {
        let _spec = decode::pod::run(request);
    }
    if let Ok(request) = wire::CreateContainerRequest::decode(bytes) {
        let _spec = decode::container::create(request);
    }
}
