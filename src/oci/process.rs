//! What runs, with which environment and where (contract §6.1).

use std::collections::BTreeMap;

use oci_spec::runtime::{Process, User};

use super::{Inputs, OciError, capability};
use crate::domain::container::ContainerSpec;
use crate::domain::image::ImageConfig;
use crate::domain::resources::Resources;
use crate::domain::security::ResolvedUser;

/// `PATH` where the image has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The OCI process of a container.
pub(super) fn build(inputs: &Inputs<'_>, caps: capability::Sets) -> Result<Process, OciError> {
    let spec = inputs.spec;
    let mut process = bare(inputs.user, caps);
    process
        .set_terminal(Some(spec.tty))
        .set_args(Some(args(spec, inputs.image)?))
        .set_env(Some(env(inputs)?))
        .set_cwd(cwd(spec, inputs.image).into())
        .set_no_new_privileges(Some(spec.security.no_new_privs))
        .set_oom_score_adj(Some(oom_score_adj(&spec.resources)));
    Ok(process)
}

/// A process with an identity and nothing else; limits are inherited from the daemon (contract §6.1).
pub(super) fn bare(user: &ResolvedUser, caps: capability::Sets) -> Process {
    let ResolvedUser {
        uid,
        gid,
        groups,
        home: _, /* goes into the environment */
    } = user;
    let mut identity = User::default();
    identity
        .set_uid(*uid)
        .set_gid(*gid)
        .set_additional_gids(Some(groups.clone()));
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(identity)
        .set_env(None)
        .set_capabilities(Some(caps.to_oci()))
        .set_rlimits(None)
        .set_no_new_privileges(Some(true));
    process
}

fn args(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, OciError> {
    // An entrypoint of one empty string is how image builders write "none".
    let blank = image.entrypoint.len() == 1 && image.entrypoint[0].is_empty();
    let entrypoint: &[String] = if blank { &[] } else { &image.entrypoint };
    let (first, rest): (&[String], &[String]) = match (spec.command.is_empty(), spec.args.is_empty()) {
        (false, _) => (&spec.command, &spec.args),
        (true, false) => (entrypoint, &spec.args),
        (true, true) => (entrypoint, &image.cmd),
    };
    let args: Vec<String> = first.iter().chain(rest).cloned().collect();
    match args.first() {
        Some(program) if !program.is_empty() => Ok(args),
        Some(_) | None => Err(OciError::NoCommand),
    }
}

/// In the order of contract §6.1; of two values for a name the later wins and takes the earlier's place.
fn env(inputs: &Inputs<'_>) -> Result<Vec<String>, OciError> {
    let mut env = Env::default();
    env.set("PATH", DEFAULT_PATH);
    env.set("HOSTNAME", &inputs.pod.effective_hostname);
    if inputs.spec.tty {
        env.set("TERM", "xterm");
    }
    for entry in &inputs.image.env {
        // An entry without `=` would make some C libraries look the name up elsewhere: it is dropped (CVE-2026-57231).
        match entry.split_once('=') {
            Some((key, value)) if !key.is_empty() && !entry.contains('\0') => env.set(key, value),
            Some(_) | None => {}
        }
    }
    for (key, value) in &inputs.spec.envs {
        let text = std::str::from_utf8(value).map_err(|source| OciError::EnvNotUtf8 {
            key: key.clone(),
            source,
        })?;
        env.set(key, text);
    }
    if !env.places.contains_key("HOME") {
        env.set("HOME", &inputs.user.home);
    }
    Ok(env.entries)
}

/// An environment in order. A pod in a namespace with many services has tens of thousands of entries.
#[derive(Default)]
struct Env {
    entries: Vec<String>,
    places: BTreeMap<String, usize>,
}

impl Env {
    fn set(&mut self, key: &str, value: impl AsRef<str>) {
        let entry = format!("{key}={}", value.as_ref());
        match self.places.get(key) {
            Some(place) => self.entries[*place] = entry,
            None => {
                self.places.insert(key.to_owned(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }
}

fn cwd(spec: &ContainerSpec, image: &ImageConfig) -> String {
    let asked = [&spec.working_dir, &image.working_dir];
    let dir = asked
        .into_iter()
        .find(|dir| !dir.is_empty())
        .map_or("/", String::as_str);
    // Images with a relative WORKDIR exist; theirs is relative to the root. That the directory is really inside is
    // checked where it is entered (CVE-2024-21626).
    if dir.starts_with('/') {
        dir.to_owned()
    } else {
        format!("/{dir}")
    }
}

/// The range is the decoder's duty; what does not fit is brought to its end.
pub(super) fn oom_score_adj(resources: &Resources) -> i32 {
    i32::try_from(resources.oom_score_adj.clamp(-1000, 1000)).unwrap_or_default()
}
