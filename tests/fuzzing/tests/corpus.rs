//! The corpus, replayed: what a fuzzer found once is looked at on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use ebbtide_fuzzing::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

#[test]
fn every_input_of_the_corpus_is_taken_without_a_finding() {
    for (name, body) in TARGETS {
        let folder = fuzz().join("corpus").join(name);
        let mut inputs: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            eprintln!("{}", input.display());
            body(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn every_target_has_its_file() {
    let mut files: Vec<String> = fs::read_dir(fuzz().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut names = TARGETS.map(|(name, _)| name.to_owned());
    names.sort();
    assert_eq!(files, names);
}

#[test]
fn noise_is_taken_without_a_finding() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift: no two runs differ.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (_, body) in TARGETS {
        for _ in 0..300 {
            let length = next() % 400;
            let small = next() % 2 == 0;
            let noise: Vec<u8> = (0..length).map(|_| if small { next() % 4 } else { next() } as u8).collect();
            body(&noise);
        }
    }
}
