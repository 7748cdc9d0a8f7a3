//! The reference system: a shop of small services that share facts and keep their state as
//! events.
//!
//! | service | owns | does |
//! | --- | --- | --- |
//! | [`orders`] | `order`, `return` | takes orders and returns, [has them priced](quoting); each order ends confirmed or rejected |
//! | [`stock`] | `stock` | reserves, releases; ships, re-orders and takes goods back by listening |
//! | [`payments`] | `payment`, `refund` | has the provider charge and refund |
//! | [`shipping`] | `shipment` | sends off what was paid |
//! | [`checkout`] | the saga | reserve, bill, pay, ship, confirm; undoes in reverse |
//! | [`customers`] | a view | history and spend of each customer |
//! | [`pricing`] | `price` | says what products cost; moves prices with demand, by listening |
//! | [`storefront`] | views | how orders stand, what was sold |
//!
//! A service is a module that says what it hosts; [`shop`] puts them side by side, and
//! [`demo`] lets real invoices through them. The [`provider`] of payments stands outside.

pub mod audit;
pub mod checkout;
pub mod customers;
pub mod demo;
pub mod floor;
pub mod input;
pub mod orders;
pub mod payments;
pub mod pricing;
pub mod provider;
pub mod quoting;
pub mod shipping;
pub mod shop;
pub mod stock;
pub mod storefront;
