//! Tokens that are good, and the ways in which others are forged.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anabranch_access::{Principal, Unauthenticated, Verb};
use anabranch_env::sim::{SimClock, SimDisk};
use anabranch_env::{Env, OpenMode};
use anabranch_jwt::{Issuer, IssuerError, LEEWAY, TOKEN_BYTES_MAX};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits = part
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - part.len()));
        for at in 0..=part.len() {
            text.push(DIGITS[(bits >> (18 - 6 * at) & 63) as usize] as char);
        }
    }
    text
}

/// Whoever signs: with an Ed25519 key `ed` and a P-256 key `ec`.
struct Signer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).unwrap(),
            random,
        }
    }

    fn ed_key(&self) -> Value {
        let x = base64url(self.ed.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "use": "sig", "x": x})
    }

    fn ec_key(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": y})
    }

    fn issuer(&self) -> Issuer {
        issuer(&json!({"keys": [self.ed_key(), self.ec_key()]})).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let said = said(header, claims);
        let signature = match header["alg"].as_str() {
            Some("ES256") => {
                let signed = self.ec.sign(&self.random, said.as_bytes()).unwrap();
                base64url(signed.as_ref())
            }
            _ => base64url(self.ed.sign(said.as_bytes()).as_ref()),
        };
        format!("{said}.{signature}")
    }

    fn good(&self) -> String {
        self.sign(&header("EdDSA", "ed"), &claims())
    }
}

fn said(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn header(algorithm: &str, kid: &str) -> Value {
    json!({"alg": algorithm, "typ": "JWT", "kid": kid})
}

fn claims() -> Value {
    json!({
        "iss": "https://who.example", "aud": "anabranch", "sub": "ada",
        "exp": NOW + 300, "nbf": NOW - 5,
        "scope": "openid read:order deny:read:payment",
    })
}

/// The same claims but for this one; `null` leaves it out.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

const KEYS: &str = "/keys.json";

fn machine() -> Env {
    SimDisk::new(1, Arc::new(SimClock::new())).env(1)
}

fn write(env: &Env, keys: &str) {
    let path = Path::new(KEYS);
    if env.disk.exists(path).unwrap() {
        env.disk.remove(path).unwrap();
    }
    let file = env.disk.open(path, OpenMode::Create).unwrap();
    file.write_all_at(keys.as_bytes(), 0).unwrap();
}

fn issuer(keys: &Value) -> Result<Issuer, IssuerError> {
    let env = machine();
    write(&env, &keys.to_string());
    read(&env)
}

fn read(env: &Env) -> Result<Issuer, IssuerError> {
    let path = Path::new(KEYS);
    Issuer::read(env, path, "https://who.example", "anabranch", "scope")
}

#[test]
fn a_new_file_of_keys_counts_from_the_next_look_on_and_one_that_cannot_be_used_changes_nothing() {
    let (before, after) = (Signer::new(), Signer::new());
    let env = machine();
    write(&env, &json!({"keys": [before.ed_key()]}).to_string());
    let issuer = read(&env).unwrap();
    assert!(!issuer.look().unwrap());
    write(&env, r#"{"keys": []}"#);
    assert!(issuer.look().is_err());
    assert!(shown(&issuer, &before.good(), NOW).is_ok());
    write(&env, &json!({"keys": [after.ed_key()]}).to_string());
    assert!(shown(&issuer, &after.good(), NOW).is_err());
    assert!(issuer.look().unwrap());
    assert!(shown(&issuer, &after.good(), NOW).is_ok());
    assert!(shown(&issuer, &before.good(), NOW).is_err());
}

fn shown(issuer: &Issuer, token: &str, now: u64) -> Result<Arc<Principal>, Unauthenticated> {
    issuer.authenticate(format!("Bearer {token}").as_bytes(), now * 1_000_000)
}

#[test]
fn who_shows_a_good_token_is_whom_it_names_and_may_what_it_says_until_it_ends() {
    let signer = Signer::new();
    let issuer = signer.issuer();
    for (algorithm, kid) in [("EdDSA", "ed"), ("ES256", "ec")] {
        let token = signer.sign(&header(algorithm, kid), &claims());
        let principal = shown(&issuer, &token, NOW).unwrap();
        assert_eq!((&*principal.name, &*principal.key), ("ada", "jwt:ada"));
        assert!(principal.scopes.allow(Verb::Read, "order"));
        assert!(!principal.scopes.allow(Verb::Read, "payment"));
        assert!(!principal.scopes.allow(Verb::Append, "order"));
        let end = (NOW + 300 + LEEWAY) * 1_000_000;
        assert_eq!(principal.until, Some(end), "{algorithm}");
    }
}

#[test]
fn a_token_is_good_from_its_beginning_to_its_end_and_a_moment_more() {
    let signer = Signer::new();
    let issuer = signer.issuer();
    let token = signer.good();
    for (now, is_good) in [
        (NOW - 5 - LEEWAY - 1, false),
        (NOW - 5 - LEEWAY, true),
        (NOW + 300 + LEEWAY - 1, true),
        (NOW + 300 + LEEWAY, false),
    ] {
        assert_eq!(shown(&issuer, &token, now).is_ok(), is_good, "{now}");
    }
    let late = shown(&issuer, &token, NOW + 1000);
    assert_eq!(late.err(), Some(Unauthenticated::Expired));
}

#[test]
fn a_token_that_names_its_algorithm_itself_is_checked_by_that_of_the_key() {
    let signer = Signer::new();
    let issuer = signer.issuer();
    let good = signer.good();
    let (head, _) = good.rsplit_once('.').unwrap();
    let public = signer.ed_key()["x"].as_str().unwrap().to_owned();
    let hmac = |secret: &[u8]| {
        let said = said(&header("HS256", "ed"), &claims());
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let signature = base64url(ring::hmac::sign(&key, said.as_bytes()).as_ref());
        format!("{said}.{signature}")
    };
    let unsigned = |algorithm: &str| {
        let said = said(&json!({"alg": algorithm, "kid": "ed"}), &claims());
        [format!("{said}."), said]
    };
    let mut forged = vec![
        ("without its signature", format!("{head}.")),
        ("without its last part", head.to_owned()),
        (
            "HS256 with the public key",
            hmac(signer.ed.public_key().as_ref()),
        ),
        ("HS256 with the public key as text", hmac(public.as_bytes())),
        ("HS256 with nothing", hmac(b"")),
        (
            "an algorithm of another key",
            signer.sign(&header("ES256", "ed"), &claims()),
        ),
        (
            "a key of another algorithm",
            signer.sign(&header("EdDSA", "ec"), &claims()),
        ),
    ];
    for algorithm in ["none", "None", "NONE", "", "EdDSA"] {
        forged.extend(unsigned(algorithm).map(|token| ("unsigned", token)));
    }
    for (what, token) in forged {
        let told = shown(&issuer, &token, NOW);
        assert_eq!(
            told.err(),
            Some(Unauthenticated::Unknown),
            "{what}: {token}"
        );
    }
}

#[test]
fn a_token_of_somebody_else_or_for_somebody_else_is_none() {
    let signer = Signer::new();
    let issuer = signer.issuer();
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        (
            "iss",
            json!(["https://who.example", "https://evil.example"]),
        ),
        ("iss", Value::Null),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("aud", json!(7)),
        ("aud", Value::Null),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("a".repeat(257))),
        ("sub", Value::Null),
        ("exp", Value::Null),
        ("exp", json!("1900000000")),
        ("exp", json!(-1)),
        ("exp", json!(NOW - 1000)),
        ("nbf", json!(NOW + 1000)),
        ("nbf", json!("soon")),
        ("scope", json!("read:order deny:raed:payment")),
        ("scope", json!({"read": "order"})),
        ("scope", json!([7])),
    ] {
        let claims = claims_with(name, value);
        let token = signer.sign(&header("EdDSA", "ed"), &claims);
        assert!(shown(&issuer, &token, NOW).is_err(), "{claims}");
    }
    let list = claims_with("aud", json!(["others", "anabranch"]));
    let token = signer.sign(&header("EdDSA", "ed"), &list);
    assert!(shown(&issuer, &token, NOW).is_ok());
    let token = Signer::new().good();
    assert!(
        shown(&issuer, &token, NOW).is_err(),
        "signed by somebody else"
    );
}

#[test]
fn where_a_token_says_that_its_key_is_found_is_not_looked_at() {
    let signer = Signer::new();
    let issuer = signer.issuer();
    let other = Signer::new();
    for (name, value) in [
        ("kid", json!("unknown")),
        ("kid", json!("../../keys/ed")),
        ("kid", json!("ed' OR 1=1")),
        ("kid", Value::Null),
        ("jwk", other.ed_key()),
        ("jku", json!("https://evil.example/keys.json")),
        ("x5u", json!("https://evil.example/chain.pem")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("zip", json!("DEF")),
    ] {
        let mut header = header("EdDSA", "ed");
        header[name] = value;
        if header["kid"].is_null() {
            header.as_object_mut().unwrap().remove("kid");
        }
        let token = other.sign(&header, &claims());
        assert!(shown(&issuer, &token, NOW).is_err(), "{header}");
    }
}

#[test]
fn what_is_no_token_is_refused_however_long_it_is() {
    let signer = Signer::new();
    let issuer = signer.issuer();
    let good = signer.good();
    for wrong in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.é.é",
        &good[1..],
        &format!("{good}."),
    ] {
        assert!(shown(&issuer, wrong, NOW).is_err(), "{wrong}");
    }
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        // The last digit of a text may have bits that mean nothing; then it is refused as well.
        assert!(shown(&issuer, &changed, NOW).is_err(), "{at}");
    }
    let long = claims_with("padding", json!("a".repeat(TOKEN_BYTES_MAX)));
    let long = signer.sign(&header("EdDSA", "ed"), &long);
    assert!(shown(&issuer, &long, NOW).is_err());
    assert!(shown(&issuer, &"a".repeat(10 << 20), NOW).is_err());
    let basic = format!("Basic {good}");
    assert!(
        issuer
            .authenticate(basic.as_bytes(), NOW * 1_000_000)
            .is_err()
    );
}

#[test]
fn a_set_of_keys_that_nobody_should_trust_is_refused_with_its_reason() {
    let signer = Signer::new();
    let changed = |name: &str, value: Value| {
        let mut key = signer.ed_key();
        key[name] = value;
        key
    };
    let two = |first: Value, second: Value| json!({"keys": [first, second]});
    for (keys, part) in [
        (json!({"keys": []}), "it holds no key"),
        (json!([]), "no JSON Web Key Set"),
        (
            json!({"keys": [{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}]}),
            "a shared secret",
        ),
        (
            json!({"keys": [changed("alg", json!("RS256"))]}),
            "for another algorithm",
        ),
        (
            json!({"keys": [changed("use", json!("enc"))]}),
            "not for signatures",
        ),
        (two(signer.ed_key(), signer.ed_key()), "the same kid"),
    ] {
        let error = issuer(&keys).unwrap_err().to_string();
        assert!(
            error.contains(part) && error.contains("/keys.json"),
            "{error}"
        );
        assert!(!error.contains("c2VjcmV0"), "{error}");
    }
}

/// What `openssl` prints, which makes the one kind of key that nothing here can.
fn openssl(dir: &Path, arguments: &str, input: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl is installed");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments}");
    output.stdout
}

#[test]
fn a_token_that_rsa_has_signed_is_checked_as_rs256_alone() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    openssl(
        dir,
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out jwt-rsa.pem",
        "",
    );
    let modulus = openssl(dir, "rsa -in jwt-rsa.pem -noout -modulus", "");
    let modulus = String::from_utf8(modulus).unwrap();
    let digits = modulus.trim().strip_prefix("Modulus=").unwrap();
    let n: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    // 65537, as everybody has.
    let key = json!({"kty": "RSA", "kid": "rsa", "n": base64url(&n), "e": "AQAB"});
    let issuer = issuer(&json!({"keys": [key]})).unwrap();
    for (algorithm, digest, is_good) in [
        ("RS256", "sha256", true),
        ("RS512", "sha512", false),
        ("RS256", "sha512", false),
    ] {
        let said = said(&header(algorithm, "rsa"), &claims());
        let sign = format!("dgst -{digest} -sign jwt-rsa.pem");
        let signature = base64url(&openssl(dir, &sign, &said));
        let told = shown(&issuer, &format!("{said}.{signature}"), NOW);
        assert_eq!(told.is_ok(), is_good, "{algorithm} {digest}");
    }
    let said = said(&header("HS256", "rsa"), &claims());
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &n);
    let signature = base64url(ring::hmac::sign(&secret, said.as_bytes()).as_ref());
    assert!(shown(&issuer, &format!("{said}.{signature}"), NOW).is_err());
}

#[test]
fn what_the_machine_says_that_the_time_is_does_not_matter() {
    // A token of the year 2100 is good in 2100, and one of 1980 was good in 1980.
    let signer = Signer::new();
    let issuer = signer.issuer();
    for year in [315_532_800_u64, 4_102_444_800] {
        let mut claims = claims_with("exp", json!(year + 60));
        claims["nbf"] = json!(year);
        let token = signer.sign(&header("EdDSA", "ed"), &claims);
        assert!(shown(&issuer, &token, year).is_ok(), "{year}");
    }
}
