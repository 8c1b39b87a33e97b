//! [`Renewals`]: whether a link that the CDN refuses is renewed (rule 3 of the design).
