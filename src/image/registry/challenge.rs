//! `WWW-Authenticate` (RFC 9110 §11.6.1), read within limits: it comes from whoever answers on the registry's port.

/// Longest header looked at, in bytes.
const MAX_HEADER: usize = 8 * 1024;
/// Most challenges looked at.
const MAX_CHALLENGES: usize = 16;

/// One way in that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// URL of the token endpoint, as given.
        realm: String,
        /// Name of the registry for the token endpoint.
        service: Option<String>,
        /// What the token has to be for, as given.
        scope: Option<String>,
    },
}

/// The challenges of one header that we know how to answer; what is malformed or unknown is left out.
pub(in crate::image) fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > MAX_HEADER {
        return Vec::new();
    }
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    while found.len() <= MAX_CHALLENGES {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        match parameter_value(after) {
            Some((value, after)) => {
                // A parameter before any scheme belongs to nothing: stop reading.
                let Some((_, parameters)) = found.last_mut() else { break };
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.truncate(MAX_CHALLENGES);
    found.into_iter().filter_map(known).collect()
}

fn known((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let mut parameters = parameters.into_iter().collect::<std::collections::BTreeMap<_, _>>();
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        }),
        _ => None,
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let end = text.bytes().position(|b| !is_token(b)).unwrap_or(text.len());
    text.split_at(end)
}

/// `= value` after a parameter's name: the value and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']).strip_prefix('=')?;
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = token(text);
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests;
