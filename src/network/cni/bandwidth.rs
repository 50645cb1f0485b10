//! The `bandwidth` capability: what a pod's two annotations ask for (CRI contract §5.2).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::NetworkError;

/// Traffic to the pod.
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// Traffic from the pod.
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Bits; the plugin wants a number, and the rate is what limits.
const BURST: u32 = u32::MAX;
/// Kubernetes' own bounds for these annotations, bits per second.
const LEAST: u128 = 1_000;
const MOST: u128 = 1_000_000_000_000_000;

/// The capability's value; `None` when nothing is asked for.
///
/// # Errors
/// An annotation is no Kubernetes quantity, or out of bounds.
pub(super) fn asked(annotations: &BTreeMap<String, String>) -> Result<Option<Value>, NetworkError> {
    let mut asked = Map::new();
    for (annotation, rate, burst) in [
        (INGRESS, "ingressRate", "ingressBurst"),
        (EGRESS, "egressRate", "egressBurst"),
    ] {
        let Some(text) = annotations.get(annotation) else {
            continue;
        };
        let bits = quantity(text).filter(|bits| (LEAST..=MOST).contains(bits));
        let bits = bits.and_then(|bits| u64::try_from(bits).ok());
        let bits = bits.ok_or_else(|| NetworkError::Bandwidth {
            annotation,
            value: text.chars().take(40).collect(),
        })?;
        asked.insert(rate.to_owned(), json!(bits));
        asked.insert(burst.to_owned(), json!(BURST));
    }
    Ok((!asked.is_empty()).then_some(Value::Object(asked)))
}

/// A Kubernetes quantity (`10M`, `1.5Gi`, `1e6`) as a whole number, rounded up as Kubernetes does. `None` for what is
/// none, or does not fit.
fn quantity(text: &str) -> Option<u128> {
    let end = text
        .find(|character: char| !(character.is_ascii_digit() || character == '.'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 30 {
        return None;
    }
    let digits: u128 = digits.parse().ok()?;
    let (factor, divisor) = scale(suffix)?;
    let divisor = divisor.checked_mul(10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    Some(digits.checked_mul(factor)?.div_ceil(divisor))
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let decimal = |power: u32| Some((10_u128.checked_pow(power)?, 1));
    let binary = |power: u32| Some((1_u128 << power, 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let magnitude = 10_u128.checked_pow(power.unsigned_abs())?;
            Some(if power < 0 { (1, magnitude) } else { (magnitude, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, bits) in [
            ("10M", 10_000_000),
            ("1.5Gi", 1_610_612_736),
            ("1e6", 1_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1.0001k", 1_001),
            ("2500000m", 2_500),
            (".5M", 500_000),
        ] {
            assert_eq!(quantity(text), Some(bits), "{text}");
        }
        for text in ["", "M", "-1M", "+1M", "1MB", "1.2.3", "1 M", "ten", "1e99", "1e"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn each_direction_is_asked_for_alone() {
        let annotations = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            owned.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(asked(&annotations(&[("other", "1M")])).unwrap(), None);
        let ingress = asked(&annotations(&[(INGRESS, "10M")])).unwrap().unwrap();
        assert_eq!(
            ingress,
            json!({"ingressRate": 10_000_000, "ingressBurst": 4_294_967_295_u32})
        );
        for bad in ["fast", "1", "2P", ""] {
            let error = asked(&annotations(&[(EGRESS, bad)])).unwrap_err().to_string();
            assert!(error.contains("egress-bandwidth"), "{error}");
        }
    }
}
