use thiserror::Error;

/// One line of an invoice, as the data set has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Number of the invoice: digits, with a letter before them if it is no sale.
    pub invoice: String,
    /// The product's code.
    pub sku: String,
    /// What the product is called, with its spaces; none is given for some.
    pub description: Option<String>,
    /// How many; negative for goods that came back or were lost.
    pub quantity: i64,
    /// When the invoice was written: the shop's local time, ISO 8601 without a zone.
    pub invoiced_at: String,
    /// Price of one, in thousandths of a pound.
    pub unit_price_thousandths: i64,
    /// The customer's number; unknown for a quarter of the rows.
    pub customer: Option<String>,
    /// Where the customer lives.
    pub country: String,
}

/// The columns of the data set, in the order of [`Row::parse`].
pub const COLUMNS: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

/// Why a row is no invoice line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadRow {
    /// A value that every line has is missing.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A name with characters that a name cannot have.
    #[error("{column} {value:?} holds a control character or is longer than 100 bytes")]
    Name {
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
    },
    /// No whole number.
    #[error("Quantity {0:?} is not a whole number")]
    Quantity(String),
    /// No amount of money.
    #[error("UnitPrice {0:?} is not a decimal number such as 2.55, or is too large")]
    Price(String),
    /// No time.
    #[error("InvoiceDate {0:?} is not a time such as 2010-12-01 08:26:00")]
    Date(String),
}

impl Row {
    /// Reads the values of [`COLUMNS`].
    pub fn parse(values: [&str; 8]) -> Result<Self, BadRow> {
        let [
            invoice,
            sku,
            description,
            quantity,
            date,
            price,
            customer,
            country,
        ] = values;
        Ok(Self {
            invoice: name("InvoiceNo", invoice)?,
            sku: name("StockCode", sku)?,
            description: given(description),
            quantity: quantity
                .parse()
                .map_err(|_| BadRow::Quantity(quantity.to_owned()))?,
            invoiced_at: time(date).ok_or_else(|| BadRow::Date(date.to_owned()))?,
            unit_price_thousandths: thousandths(price)
                .ok_or_else(|| BadRow::Price(price.to_owned()))?,
            customer: customer_number(customer)?,
            country: name("Country", country)?,
        })
    }
}

fn given(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// A value that becomes part of a stream's name or of a tag.
fn name(column: &'static str, value: &str) -> Result<String, BadRow> {
    if value.is_empty() {
        return Err(BadRow::Empty(column));
    }
    if value.len() > 100 || value.chars().any(char::is_control) {
        return Err(BadRow::Name {
            column,
            value: value.to_owned(),
        });
    }
    Ok(value.to_owned())
}

/// The data set was once a column of floating-point numbers: `17850.0` is customer 17850.
fn customer_number(value: &str) -> Result<Option<String>, BadRow> {
    if value.is_empty() {
        return Ok(None);
    }
    name("CustomerID", value.strip_suffix(".0").unwrap_or(value)).map(Some)
}

/// Decimal digits as thousandths, rounded to the nearest, halves away from zero. No
/// floating-point number is made on the way.
fn thousandths(value: &str) -> Option<i64> {
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let digit = |at: usize| {
        let byte = fraction.as_bytes().get(at).copied().unwrap_or(b'0');
        i64::from(byte - b'0')
    };
    let thousandths = whole
        .parse::<i64>()
        .ok()?
        .checked_mul(1_000)?
        .checked_add(digit(0) * 100 + digit(1) * 10 + digit(2))?
        .checked_add(i64::from(digit(3) >= 5))?;
    Some(if negative { -thousandths } else { thousandths })
}

/// `2010-12-01 08:26:00` as `2010-12-01T08:26:00`, if there is such a time.
fn time(value: &str) -> Option<String> {
    let shape = "dddd-dd-dd dd:dd:dd";
    let fits = value.len() == shape.len()
        && value.bytes().zip(shape.bytes()).all(|(b, s)| {
            if s == b'd' {
                b.is_ascii_digit()
            } else {
                b == s
            }
        });
    if !fits {
        return None;
    }
    let number = |from: usize, to: usize| value[from..to].parse::<u32>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        1..=12 => 31,
        _ => 0,
    };
    let exists = (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60;
    exists.then(|| value.replace(' ', "T"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [&str; 8] = [
        "536365",
        "85123A",
        "WHITE HANGING HEART T-LIGHT HOLDER",
        "6",
        "2010-12-01 08:26:00",
        "2.55",
        "17850.0",
        "United Kingdom",
    ];

    fn with(column: &str, value: &'static str) -> Result<Row, BadRow> {
        let mut values = PLAIN;
        let index = COLUMNS.iter().position(|c| *c == column).unwrap();
        values[index] = value;
        Row::parse(values)
    }

    #[test]
    fn a_row_reads_as_a_line_of_an_invoice() {
        let row = Row::parse(PLAIN).unwrap();
        assert_eq!(row.unit_price_thousandths, 2_550);
        assert_eq!(row.customer.as_deref(), Some("17850"));
        assert_eq!(row.invoiced_at, "2010-12-01T08:26:00");
    }

    #[test]
    fn money_is_counted_in_thousandths() {
        for (text, thousandths) in [
            ("0.001", 1),
            ("2.1", 2_100),
            ("7", 7_000),
            ("-11062.06", -11_062_060),
            ("0.0004999", 0),
            ("0.0005", 1),
            ("1.9995", 2_000),
        ] {
            let row = with("UnitPrice", text).unwrap();
            assert_eq!(row.unit_price_thousandths, thousandths, "{text}");
        }
    }

    #[test]
    fn a_price_that_is_no_amount_is_refused() {
        for text in [
            "",
            "-",
            "1e3",
            "1,5",
            ".5",
            "5.",
            "£1",
            "1.2.3",
            "--1",
            "9223372036854775807",
        ] {
            assert_eq!(with("UnitPrice", text), Err(BadRow::Price(text.to_owned())));
        }
    }

    #[test]
    fn a_time_that_does_not_exist_is_refused() {
        for text in [
            "",
            "2010-12-01",
            "2010-13-01 08:26:00",
            "2010-02-29 08:26:00",
            "2010-12-01 24:00:00",
            "12/1/2010 8:26",
            "2010-12-01T08:26:00",
        ] {
            assert_eq!(
                with("InvoiceDate", text),
                Err(BadRow::Date(text.to_owned()))
            );
        }
        assert!(with("InvoiceDate", "2012-02-29 23:59:59").is_ok());
    }

    #[test]
    fn what_is_not_known_is_absent() {
        assert_eq!(with("CustomerID", "").unwrap().customer, None);
        assert_eq!(with("Description", "").unwrap().description, None);
    }

    #[test]
    fn a_missing_invoice_product_or_country_is_refused() {
        for column in ["InvoiceNo", "StockCode", "Country"] {
            let message = with(column, "").unwrap_err().to_string();
            assert_eq!(message, format!("{column} is empty"));
        }
    }

    #[test]
    fn a_name_with_a_control_character_is_refused() {
        let message = with("StockCode", "85\u{0}123A").unwrap_err().to_string();
        assert!(
            message.starts_with("StockCode \"85\\0123A\" holds"),
            "{message}"
        );
    }

    #[test]
    fn a_quantity_that_is_no_whole_number_is_refused() {
        for text in ["", "1.5", "six", "99999999999999999999"] {
            assert_eq!(
                with("Quantity", text),
                Err(BadRow::Quantity(text.to_owned()))
            );
        }
        assert_eq!(with("Quantity", "-74215").unwrap().quantity, -74_215);
    }
}
