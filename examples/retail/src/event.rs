use serde::Serialize;
use uuid::Uuid;

use crate::row::Row;

/// The namespace of the ids: itself the name-based id of the data set's address,
/// `https://doi.org/10.24432/C5BW33`, so that other programs can derive the same ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x2be4_3a6b_2a40_5c9f_a6df_b224_5ddf_ce23);

/// An event as `anabranch import` reads it: one line of an invoice.
///
/// The stream is the invoice, so its lines stay in the order of the rows. The id is
/// derived from the invoice and the line (UUID version 5), so the same line has the same
/// id in whichever cut of the data set it stands, and importing it twice stores it once.
#[derive(Debug, Serialize)]
pub struct LineEvent<'a> {
    stream: String,
    #[serde(rename = "type")]
    event_type: &'static str,
    id: Uuid,
    tags: [String; 2],
    data: LineData<'a>,
}

#[derive(Debug, Serialize)]
struct LineData<'a> {
    invoice: &'a str,
    line: u32,
    sku: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    quantity: i64,
    unit_price_thousandths: i64,
    currency: &'static str,
    invoiced_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<&'a str>,
    country: &'a str,
}

impl<'a> LineEvent<'a> {
    /// The event of `row`, which is line `line` of its invoice, from 1.
    pub fn of(row: &'a Row, line: u32) -> Self {
        let name = format!("{}/{line}", row.invoice);
        Self {
            stream: format!("invoice/{}", row.invoice),
            event_type: event_type(row),
            id: Uuid::new_v5(&NAMESPACE, name.as_bytes()),
            tags: [
                format!("sku:{}", row.sku),
                format!("country:{}", row.country),
            ],
            data: LineData {
                invoice: &row.invoice,
                line,
                sku: &row.sku,
                description: row.description.as_deref(),
                quantity: row.quantity,
                unit_price_thousandths: row.unit_price_thousandths,
                currency: "GBP",
                invoiced_at: &row.invoiced_at,
                customer: row.customer.as_deref(),
                country: &row.country,
            },
        }
    }
}

/// Numbers of digits alone are invoices, `C…` are returns. Whatever else the shop booked
/// through its invoices (write-offs with a negative quantity, bad debt) is an adjustment.
fn event_type(row: &Row) -> &'static str {
    let is_sale = row.invoice.bytes().all(|b| b.is_ascii_digit());
    if is_sale && row.quantity > 0 {
        "LineInvoiced"
    } else if row.invoice.starts_with('C') && row.quantity < 0 {
        "LineReturned"
    } else {
        "AdjustmentBooked"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(invoice: &str, quantity: &str) -> Row {
        Row::parse([
            invoice,
            "22041",
            "RECORD FRAME 7\" SINGLE SIZE ",
            quantity,
            "2010-12-01 12:27:00",
            "2.1",
            "",
            "EIRE",
        ])
        .unwrap()
    }

    #[test]
    fn the_namespace_is_derived_from_the_address_of_the_data_set() {
        let address = b"https://doi.org/10.24432/C5BW33";
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, address));
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let json = serde_json::to_string(&LineEvent::of(&row("536477", "48"), 3)).unwrap();
        assert_eq!(
            json,
            "{\"stream\":\"invoice/536477\",\"type\":\"LineInvoiced\",\
             \"id\":\"771a3d0e-c1a8-50cc-84e1-6911418e449b\",\
             \"tags\":[\"sku:22041\",\"country:EIRE\"],\
             \"data\":{\"invoice\":\"536477\",\"line\":3,\"sku\":\"22041\",\
             \"description\":\"RECORD FRAME 7\\\" SINGLE SIZE \",\"quantity\":48,\
             \"unit_price_thousandths\":2100,\"currency\":\"GBP\",\
             \"invoiced_at\":\"2010-12-01T12:27:00\",\"country\":\"EIRE\"}}"
        );
    }

    #[test]
    fn the_number_and_the_quantity_tell_what_happened() {
        for (invoice, quantity, expected) in [
            ("536365", "6", "LineInvoiced"),
            ("C536379", "-1", "LineReturned"),
            ("536589", "-10", "AdjustmentBooked"),
            ("A563185", "1", "AdjustmentBooked"),
            ("C536379", "1", "AdjustmentBooked"),
            ("536365", "0", "AdjustmentBooked"),
        ] {
            assert_eq!(
                event_type(&row(invoice, quantity)),
                expected,
                "{invoice} {quantity}"
            );
        }
    }

    #[test]
    fn every_line_of_every_invoice_has_an_id_of_its_own() {
        let (a, b) = (row("1", "1"), row("11", "1"));
        let ids =
            [(&a, 1), (&a, 2), (&b, 1), (&a, 11)].map(|(row, line)| LineEvent::of(row, line).id);
        let mut unique = ids.to_vec();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
        assert_eq!(LineEvent::of(&a, 1).id, ids[0]);
    }
}
