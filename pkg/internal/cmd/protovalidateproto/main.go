// Command protovalidateproto prints protovalidate's validate.proto from the
// descriptor in its Go module into the folder named, so that buf can resolve
// the import at exactly the version that the Go code uses, without a registry.
package main

import (
	"fmt"
	"os"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: protovalidateproto <folder>")
		os.Exit(2)
	}
	printer := protoprint.Printer{}
	files := []protoreflect.FileDescriptor{validate.File_buf_validate_validate_proto}
	if err := printer.PrintProtosToFileSystem(files, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "protovalidateproto:", err)
		os.Exit(1)
	}
}
