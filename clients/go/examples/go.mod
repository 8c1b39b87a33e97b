module github.com/hypersender-grpc/hypersender-grpc/clients/go/examples

go 1.25.0

replace github.com/hypersender-grpc/hypersender-grpc/clients/go => ..

require (
	github.com/hypersender-grpc/hypersender-grpc/clients/go v0.1.0
	github.com/schollz/progressbar/v3 v3.19.1
	golang.org/x/term v0.45.0
)

require (
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	golang.org/x/net v0.57.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.40.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260706201446-f0a921348800 // indirect
	google.golang.org/grpc v1.84.0 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
