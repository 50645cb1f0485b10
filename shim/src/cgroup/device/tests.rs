use super::super::error::CgroupError;
use super::super::resources::Device;
use super::{ACCESS, EVERY, Kind, Rule, program};
use crate::sys::bpf::Instruction;

/// What the program answers; panics where the kernel's verifier would have refused it.
fn run(program: &[Instruction], context: [u32; 3]) -> u32 {
    let mut registers = [0_u32; 11];
    let mut at = 0;
    loop {
        let instruction = program[at];
        let [to, from] = instruction.registers().map(usize::from);
        let value = instruction.immediate.cast_unsigned();
        let over = usize::try_from(instruction.offset).unwrap();
        at += 1;
        match instruction.code {
            0x61 => registers[to] = context[over / 4],
            0xb4 => registers[to] = value,
            0xbc => registers[to] = registers[from],
            0x54 => registers[to] &= value,
            0x74 => registers[to] >>= value,
            0x16 if registers[to] == value => at += over,
            0x56 if registers[to] != value => at += over,
            0x16 | 0x56 => {}
            0x95 => return registers[0],
            code => panic!("code {code:#x}"),
        }
    }
}

/// The rule in words: each bit by the last rule that speaks of it, nothing without one.
fn naive(rules: &[Rule], kind: Kind, numbers: [u32; 2], access: u8) -> bool {
    let speaks = |rule: &&Rule, bit: u8| {
        (rule.kind == Kind::All || rule.kind == kind)
            && rule.major.is_none_or(|major| major == numbers[0])
            && rule.minor.is_none_or(|minor| minor == numbers[1])
            && rule.access & bit != 0
    };
    let allowed = |bit: u8| {
        rules
            .iter()
            .rfind(|rule| speaks(rule, bit))
            .is_some_and(|rule| rule.allow)
    };
    ACCESS
        .iter()
        .filter(|(_, bit)| access & bit != 0)
        .all(|(_, bit)| allowed(*bit))
}

/// A small generator of numbers (xorshift): the same rules at each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn number(&mut self) -> Option<u32> {
        [None, Some(1), Some(2), Some(u32::MAX)][usize::try_from(self.below(4)).unwrap()]
    }

    fn rule(&mut self) -> Rule {
        Rule {
            allow: self.below(2) == 0,
            kind: [Kind::All, Kind::Char, Kind::Block][usize::try_from(self.below(3)).unwrap()],
            major: self.number(),
            minor: self.number(),
            access: u8::try_from(1 + self.below(7)).unwrap(),
        }
    }
}

#[test]
fn the_program_decides_as_the_rules_say() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut yes = 0;
    for round in 0..400 {
        let rules: Vec<Rule> = (0..round % 9).map(|_| numbers.rule()).collect();
        let program = program::compile(&rules);
        for (kind, word) in [(Kind::Char, 2), (Kind::Block, 1)] {
            for major in [1, 2, 3, u32::MAX] {
                for minor in [1, 2, 3, u32::MAX] {
                    for access in 1..=EVERY {
                        let answer = run(&program, [u32::from(access) << 16 | word, major, minor]) == 1;
                        let wanted = naive(&rules, kind, [major, minor], access);
                        assert_eq!(answer, wanted, "{rules:?} {kind:?} {major}:{minor} {access}");
                        yes += usize::from(answer);
                    }
                }
            }
        }
    }
    assert!(yes > 1000, "both answers are seen, {yes} times yes");
}

#[test]
fn rules_that_make_no_sense_are_refused_by_field() {
    let device = |kind: &str, major: i64, access: &str| Device {
        allow: true,
        kind: Some(kind.into()),
        major: Some(major),
        minor: None,
        access: Some(access.into()),
    };
    for (wrong, field) in [
        (device("p", 1, "r"), "linux.resources.devices.type"),
        (device("c", 1, "rwx"), "linux.resources.devices.access"),
        (device("c", 1, "rr"), "linux.resources.devices.access"),
        (device("c", -2, "r"), "linux.resources.devices.major"),
        (device("c", 1 << 33, "r"), "linux.resources.devices.major"),
    ] {
        let error = Rule::parse(&wrong).unwrap_err();
        assert!(
            matches!(error, CgroupError::Value { what, .. } if what == field),
            "{error}"
        );
    }
    let all = Device {
        allow: true,
        kind: None,
        major: None,
        minor: None,
        access: None,
    };
    assert!(Rule::parse(&all).unwrap().is_whole());
}
