//! What the compiled program answers is compared with a plain evaluation of the profile.

mod machine;

use machine::{Call, run};
use serde_json::{Value, json};

use super::assemble::compile;
use super::profile::{Comparison, Condition, Profile, parse};
use super::syscalls::{Abi, X32_BIT};
use super::{Filter, Program};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const X86_64: u32 = 0xC000_003E;
const X86: u32 = 0x4000_0003;

fn errno(number: u32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number
}

fn answer(profile: &Value, call: Call) -> u32 {
    run(&compile(&parse(&profile.to_string()).unwrap()).unwrap(), &call)
}

fn call(number: u32, args: [u64; 6]) -> Call {
    Call {
        number,
        audit: X86_64,
        args,
    }
}

/// One call with one condition on its second argument.
fn one(op: &str, value: u64, two: u64) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}]},
        {"names": ["listns"], "action": "SCMP_ACT_ALLOW"},
    ]})
}

#[test]
fn every_comparison_holds_at_its_edges() {
    const EDGES: [u64; 10] = [
        0,
        1,
        5,
        0xFFFF_FFFF,
        1 << 32,
        (1 << 32) + 5,
        5 << 32,
        (5 << 32) + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    for value in EDGES {
        for seen in EDGES {
            let cases = [
                ("SCMP_CMP_NE", seen != value),
                ("SCMP_CMP_LT", seen < value),
                ("SCMP_CMP_LE", seen <= value),
                ("SCMP_CMP_EQ", seen == value),
                ("SCMP_CMP_GE", seen >= value),
                ("SCMP_CMP_GT", seen > value),
                ("SCMP_CMP_MASKED_EQ", seen & value == 5),
            ];
            for (op, holds) in cases {
                let got = answer(&one(op, value, 5), call(16, [9, seen, 9, 9, 9, 9]));
                assert_eq!(got, if holds { ALLOW } else { errno(1) }, "{seen:#x} {op} {value:#x}");
            }
        }
    }
}

#[test]
fn a_rule_with_conditions_goes_before_one_without_whatever_the_order() {
    let with = json!({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7,
        "args": [{"index": 0, "value": 0x10000, "valueTwo": 0x10000, "op": "SCMP_CMP_MASKED_EQ"}]});
    let without = json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW"});
    for rules in [json!([with, without]), json!([without, with])] {
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
        assert_eq!(answer(&profile, call(56, [0x10000, 0, 0, 0, 0, 0])), errno(7));
        assert_eq!(answer(&profile, call(56, [0, 0, 0, 0, 0, 0])), ALLOW);
    }
}

#[test]
fn of_several_matching_rules_the_most_restrictive_decides() {
    let rule = |action: &str, value: u64| json!({"names": ["socket"], "action": action, "args": [{"index": 0, "value": value, "op": "SCMP_CMP_GE"}]});
    let rules = json!([
        rule("SCMP_ACT_ALLOW", 1),
        rule("SCMP_ACT_KILL_PROCESS", 40),
        rule("SCMP_ACT_ERRNO", 30)
    ]);
    let profile = json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": rules});
    for (family, expected) in [(0, libc::SECCOMP_RET_LOG), (2, ALLOW), (31, errno(1)), (41, KILL)] {
        assert_eq!(
            answer(&profile, call(41, [family, 0, 0, 0, 0, 0])),
            expected,
            "family {family}"
        );
    }
}

#[test]
fn two_conditions_on_one_argument_are_alternatives() {
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["personality"],
        "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]});
    for (value, expected) in [(0, ALLOW), (8, ALLOW), (9, errno(1))] {
        assert_eq!(answer(&profile, call(135, [value, 0, 0, 0, 0, 0])), expected);
    }
}

#[test]
fn calls_newer_than_the_profile_are_not_implemented() {
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"}]});
    for (number, expected) in [
        (0, ALLOW),
        (437, ALLOW),
        (1, errno(1)),
        (438, errno(38)),
        (470, errno(38)),
        (1000, errno(38)),
    ] {
        assert_eq!(answer(&profile, call(number, [0; 6])), expected, "{number}");
    }
    // A profile that lets through what it does not name lets new calls through.
    let open = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL"}]});
    assert_eq!(answer(&open, call(470, [0; 6])), ALLOW);
}

#[test]
fn other_architectures_get_in_only_if_they_are_named() {
    let rules = json!([{"names": ["read", "execve"], "action": "SCMP_ACT_ALLOW"}]);
    let native = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
    let all = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_MIPS"]});
    let i386 = |number| Call {
        number,
        audit: X86,
        args: [0; 6],
    };
    assert_eq!(answer(&native, i386(3)), KILL);
    assert_eq!(answer(&all, i386(3)), ALLOW);
    assert_eq!(answer(&all, i386(4)), errno(1));
    assert_eq!(answer(&native, call(X32_BIT, [0; 6])), errno(38));
    assert_eq!(answer(&all, call(X32_BIT, [0; 6])), ALLOW);
    // execve of x32 is 520; the 64-bit number with the bit set is no call of it.
    assert_eq!(answer(&all, call(X32_BIT | 520, [0; 6])), ALLOW);
    assert_eq!(answer(&all, call(X32_BIT | 59, [0; 6])), errno(1));
    assert_eq!(
        answer(
            &all,
            Call {
                number: 0,
                audit: 0xC000_00B7,
                args: [0; 6]
            }
        ),
        KILL
    );
}

#[test]
fn what_is_not_supported_is_named() {
    let refused = |profile: Value| parse(&profile.to_string()).unwrap_err().to_string();
    let notify = refused(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    assert!(notify.contains("\"SCMP_ACT_NOTIFY\" is not supported"), "{notify}");
    let sixth = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
        "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]});
    assert!(refused(sixth).contains("read: there is no argument 6"));
    assert!(refused(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000})).contains("5000"));
    assert!(
        refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}))
            .contains("NEW_LISTENER")
    );
    assert!(refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]})).contains("VAX"));
}

/// The profile read as its documentation says, without a tree.
fn naive(profile: &Profile, call: &Call) -> u32 {
    let x32 = call.audit == X86_64 && call.number >= X32_BIT;
    let mut same = profile
        .abis
        .iter()
        .filter(|(abi, _)| abi.audit() == call.audit)
        .peekable();
    if same.peek().is_none() {
        return KILL;
    }
    let Some((abi, verdicts)) = same.find(|(abi, _)| (*abi == Abi::X32) == x32) else {
        return errno(38);
    };
    let Some(verdict) = verdicts.get(&call.number) else {
        let newest = verdicts.keys().next_back();
        let refuses = profile.default & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
        let newer = newest.is_some_and(|newest| call.number > *newest) && refuses;
        return if newer { errno(38) } else { profile.default };
    };
    let holds = |condition: &Condition| {
        let width = if abi.is_narrow() { 0xFFFF_FFFF } else { u64::MAX };
        let seen = call.args[usize::try_from(condition.argument).unwrap()] & width;
        let (value, masked) = (condition.value & width, condition.masked & width);
        match condition.comparison {
            Comparison::NotEqual => seen != value,
            Comparison::Less => seen < value,
            Comparison::LessOrEqual => seen <= value,
            Comparison::Equal => seen == value,
            Comparison::GreaterOrEqual => seen >= value,
            Comparison::Greater => seen > value,
            Comparison::MaskedEqual => seen & value == masked,
        }
    };
    let matching = verdict
        .rules
        .iter()
        .filter(|(conditions, _)| conditions.iter().all(holds));
    let strictest = matching
        .map(|(_, returned)| *returned)
        .min_by_key(|returned| returned.cast_signed());
    strictest.or(verdict.otherwise).unwrap_or(profile.default)
}

/// A small generator: the same profiles on every run, and no crate for them.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

const VALUES: [u64; 8] = [0, 1, 2, 0x7E02_0000, 0xFFFF_FFFF, 1 << 32, (3 << 32) + 2, u64::MAX];

fn random_profile(random: &mut Random) -> Value {
    const ACTIONS: [&str; 6] = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_LOG",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_KILL_PROCESS",
    ];
    const OPS: [&str; 7] = [
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ];
    let names: Vec<&str> = syscalls::x86_64::Sysno::iter().map(|sysno| sysno.name()).collect();
    let rules: Vec<Value> = (0..random.below(30))
        .map(|_| {
            let some: Vec<&str> = (0..=random.below(8)).map(|_| random.of(&names)).collect();
            let count = if random.below(3) == 0 { random.below(7) } else { 0 };
            let args: Vec<Value> = (0..count)
                .map(|_| {
                    let (value, two) = (random.of(&VALUES), random.of(&VALUES));
                    json!({"index": random.below(6), "value": value, "valueTwo": two, "op": random.of(&OPS)})
                })
                .collect();
            json!({"names": some, "action": random.of(&ACTIONS), "errnoRet": random.below(4096), "args": args})
        })
        .collect();
    let architectures = random.of(&[
        &["SCMP_ARCH_X86_64"][..],
        &["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        &["SCMP_ARCH_X86"],
        &[],
    ]);
    json!({"defaultAction": random.of(&ACTIONS), "architectures": architectures, "syscalls": rules})
}

#[test]
fn compiled_programs_answer_as_a_plain_evaluation_does() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut compared = 0;
    while compared < 200 {
        let json = random_profile(&mut random);
        let profile = parse(&json.to_string()).unwrap();
        // Some random profiles are longer than the kernel takes.
        let Ok(program) = compile(&profile) else { continue };
        compared += 1;
        machine::check(&program);
        for _ in 0..300 {
            let base = random.of(&[0, X32_BIT, 0x8000_0000]);
            let number = base + u32::try_from(random.below(560)).unwrap();
            let args = std::array::from_fn(|_| random.of(&VALUES) ^ u64::try_from(random.below(2)).unwrap());
            let call = Call {
                number,
                audit: random.of(&[X86_64, X86_64, X86, 7]),
                args,
            };
            assert_eq!(run(&program, &call), naive(&profile, &call), "{call:x?} of {json}");
        }
    }
}

#[test]
fn an_allowed_call_costs_few_instructions_in_a_long_profile() {
    let names: Vec<&str> = syscalls::x86_64::Sysno::iter()
        .map(|sysno| sysno.name())
        .filter(|name| name.len() != 5)
        .collect();
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
    let program = compile(&parse(&profile.to_string()).unwrap()).unwrap();
    let worst = (0..460)
        .map(|number| machine::steps(&program, &call(number, [0; 6])))
        .max()
        .unwrap();
    assert!(worst <= 16, "{worst} of {} instructions", program.len());
}

#[test]
fn the_cache_gives_back_what_was_compiled_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let json = one("SCMP_CMP_EQ", 3, 0).to_string();
    let held = Filter::for_profile(&json, None).unwrap();
    assert!(matches!(held.program, Program::Held(_)) && held.fd().is_none());
    for _ in 0..2 {
        let stored = Filter::for_profile(&json, Some(directory.path())).unwrap();
        assert!(matches!(stored.program, Program::Stored { .. }));
        assert_eq!(stored.load().unwrap(), held.load().unwrap());
        assert_eq!(stored.flags(), held.flags());
    }
    let files: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    // A file of that name with another profile, one cut short, and one of another version are compiled anew.
    let good = std::fs::read(&files[0]).unwrap();
    for damage in [
        &|bytes: &mut Vec<u8>| bytes[25] ^= 1_u8,
        &|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 8),
        &|bytes: &mut Vec<u8>| bytes[4] += 1,
        &|bytes: &mut Vec<u8>| bytes.clear(),
    ] as [&dyn Fn(&mut Vec<u8>); 4]
    {
        let mut bad = good.clone();
        damage(&mut bad);
        std::fs::write(&files[0], &bad).unwrap();
        assert_eq!(
            Filter::for_profile(&json, Some(directory.path()))
                .unwrap()
                .load()
                .unwrap(),
            held.load().unwrap()
        );
        assert_eq!(std::fs::read(&files[0]).unwrap(), good);
    }
}

#[test]
fn a_cache_that_cannot_be_used_costs_time_only() {
    let json = one("SCMP_CMP_EQ", 3, 0).to_string();
    let filter = Filter::for_profile(&json, Some(std::path::Path::new("/proc/no/such"))).unwrap();
    assert!(matches!(filter.program, Program::Held(_)));
}
