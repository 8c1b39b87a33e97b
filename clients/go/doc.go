// Package client holds no code. It documents the module, which is what a Go program needs to call a
// hypersender-grpc server:
//
//   - hypersender/contact/v1 (package contactv1): messages and client, generated from the proto
//   - pictures: streams of any number of contacts, which resume when they break, and the parts of an error
//   - examples: programs to copy from, for one contact, a chat list, and the sync of a CSV file
//
// # Versions
//
// The wire contract is the proto package hypersender.contact.v1. Within v1 it only grows: fields, methods,
// enum values and error reasons are added, none changes its meaning, so an older client keeps working with a
// newer server. Treat an enum value you do not know as unspecified, and decide by the code when you do not
// know the reason. What cannot be added that way becomes hypersender/contact/v2 next to v1. The module's own
// version says only which additions its generated code knows.
package client
