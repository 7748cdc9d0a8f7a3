//! The program as a person runs it: what it takes, and how it refuses.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

const HEADER: &str =
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";
const ROW: &str = "536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n";

fn retail(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_retail"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program that refuses early closes its input; that is no fault of the writer.
    let writer = thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// What it writes, when it succeeds.
fn events(input: &[u8]) -> String {
    let output = retail(&["-"], input);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it says, when it fails.
fn refusal(input: &[u8]) -> String {
    let output = retail(&["-"], input);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

fn rows(rows: &[&str]) -> Vec<u8> {
    (HEADER.to_owned() + &rows.concat()).into_bytes()
}

#[test]
fn lines_are_counted_by_invoice_also_when_they_stand_apart() {
    let other = ROW.replace("536365", "536366");
    let out = events(&rows(&[ROW, &other, ROW]));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3);
    for (line, expected) in lines.iter().zip([
        "\"invoice\":\"536365\",\"line\":1,",
        "\"invoice\":\"536366\",\"line\":1,",
        "\"invoice\":\"536365\",\"line\":2,",
    ]) {
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn quoted_commas_quotes_and_line_breaks_are_part_of_the_value() {
    let row = ROW.replace("HOLDER", "\"AIRLINE LAMP,\r\n7\"\" RED \"");
    let out = events(&rows(&[&row]));
    assert!(
        out.contains(r#""description":"AIRLINE LAMP,\r\n7\" RED ","quantity":6"#),
        "{out}"
    );
}

#[test]
fn lines_may_end_in_carriage_return_and_line_feed() {
    let unix = rows(&[ROW, ROW]);
    let windows = String::from_utf8(unix.clone())
        .unwrap()
        .replace('\n', "\r\n");
    assert_eq!(events(windows.as_bytes()), events(&unix));
}

#[test]
fn a_byte_order_mark_and_a_missing_last_line_break_do_not_matter() {
    let plain = rows(&[ROW]);
    let mut marked = b"\xef\xbb\xbf".to_vec();
    marked.extend_from_slice(plain.trim_ascii_end());
    assert_eq!(events(&marked), events(&plain));
}

#[test]
fn compressed_input_reads_like_plain_input() {
    let plain = rows(&[ROW, ROW]);
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&plain).unwrap();
    assert_eq!(events(&packed.finish().unwrap()), events(&plain));

    let mut marked = GzEncoder::new(Vec::new(), Compression::default());
    marked.write_all(b"\xef\xbb\xbf").unwrap();
    marked.write_all(&plain).unwrap();
    assert_eq!(events(&marked.finish().unwrap()), events(&plain));
}

#[test]
fn compressed_input_that_ends_early_is_refused() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&rows(&[ROW; 100])).unwrap();
    let packed = packed.finish().unwrap();
    refusal(&packed[..packed.len() - 9]);
}

#[test]
fn columns_are_found_by_name() {
    let input = "Country,InvoiceNo,More,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID\n\
        United Kingdom,536365,x,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850.0\n";
    assert_eq!(events(input.as_bytes()), events(&rows(&[ROW])));
}

#[test]
fn a_missing_column_is_named() {
    let message = refusal(b"InvoiceNo,StockCode\n1,2\n");
    assert!(
        message.contains("line 1: there is no column Description"),
        "{message}"
    );
}

#[test]
fn an_empty_file_is_refused() {
    assert!(refusal(b"").contains("there is no column InvoiceNo"));
}

#[test]
fn a_bad_row_is_refused_with_its_line_and_the_reason() {
    let bad = ROW.replace(",6,", ",six,");
    let message = refusal(&rows(&[ROW, "\n", &bad]));
    assert_eq!(
        message,
        "retail: -: line 4: Quantity \"six\" is not a whole number\n"
    );
}

#[test]
fn the_line_of_a_bad_row_is_right_whatever_ends_the_lines() {
    let bad = ROW.replace("2.55", "free");
    let unix = String::from_utf8(rows(&[ROW, "\n", "\n", ROW, &bad])).unwrap();
    for text in [
        unix.clone(),
        unix.replace('\n', "\r\n"),
        unix.trim_end().to_owned(),
    ] {
        let message = refusal(text.as_bytes());
        assert!(message.contains("line 6: UnitPrice"), "{message}");
    }
}

#[test]
fn the_line_of_a_bad_row_counts_line_breaks_inside_values() {
    let long = ROW.replace("HOLDER", "\"A\nB\nC\"");
    let bad = ROW.replace("2.55", "free");
    let message = refusal(&rows(&[&long, &bad]));
    assert!(message.contains("line 5: UnitPrice \"free\""), "{message}");
}

#[test]
fn a_row_that_is_too_short_is_refused() {
    let message = refusal(&rows(&[ROW, "536365,85123A\n"]));
    assert!(message.contains("line 3: it has 2 values"), "{message}");
}

#[test]
fn a_quotation_mark_that_is_not_closed_is_refused() {
    let open = ROW.replace("HOLDER", "\"HOLDER");
    let message = refusal(&rows(&[ROW, &open, ROW]));
    assert!(message.contains("line 3: it has 3 values"), "{message}");
}

#[test]
fn text_that_is_not_utf_8_is_refused_unless_it_is_said_to_be_latin_1() {
    let mut input = rows(&[ROW]);
    let at = input.windows(6).position(|w| w == b"HOLDER").unwrap();
    input[at] = 0xa3;
    let message = refusal(&input);
    assert!(
        message.contains("line 2: Description is not UTF-8"),
        "{message}"
    );

    let output = retail(&["--latin1", "-"], &input);
    assert!(output.status.success());
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("\"description\":\"£OLDER\""), "{out}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = retail(&["no/such/file.csv"], b"");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        message.starts_with("retail: no/such/file.csv: "),
        "{message}"
    );
}

#[test]
fn a_wrong_use_exits_with_2() {
    for arguments in [&[][..], &["a", "b"], &["--fast", "a"]] {
        assert_eq!(
            retail(arguments, b"").status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}
