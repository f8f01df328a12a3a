package token

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fingerprint is a digest of what a list request asks for. See FingerprintOf.
type Fingerprint [8]byte

// FingerprintOf digests a request without the fields named, which are those
// that may change from page to page: page_token and page_size, unless others
// are named. Two binaries of different versions may disagree, which ends a
// listing with ErrMismatch. Names that the request has no field for are an
// error of the caller.
func FingerprintOf(tenant string, request proto.Message, except ...protoreflect.Name) (Fingerprint, error) {
	if len(except) == 0 {
		except = []protoreflect.Name{"page_token", "page_size"}
	}
	stripped := proto.Clone(request).ProtoReflect()
	for _, name := range except {
		field := stripped.Descriptor().Fields().ByName(name)
		if field == nil {
			return Fingerprint{}, fmt.Errorf("fingerprint of %s: no field %s", stripped.Descriptor().FullName(), name)
		}
		stripped.Clear(field)
	}
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(stripped.Interface())
	if err != nil {
		return Fingerprint{}, fmt.Errorf("fingerprint of %s: %w", stripped.Descriptor().FullName(), err)
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(tenant), []byte(stripped.Descriptor().FullName()), content} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	var f Fingerprint
	copy(f[:], h.Sum(nil))
	return f, nil
}

// Page makes a page token for a purpose (the list that it pages, for example
// `customer.search`), a request and the cursor behind which the next page
// begins. The cursor may hold at most MaxCursor bytes.
func Page(purpose string, request Fingerprint, cursor []byte) (string, error) {
	if len(cursor) > MaxCursor {
		return "", fmt.Errorf("page token for %s: cursor of %d bytes, at most %d", purpose, len(cursor), MaxCursor)
	}
	p := purposeDigest(purpose)
	buf := make([]byte, 0, 1+len(p)+len(request)+len(cursor)+checksumSize)
	buf = append(buf, head(page))
	buf = append(buf, p[:]...)
	buf = append(buf, request[:]...)
	buf = append(buf, cursor...)
	return seal(buf), nil
}

// MaxCursor is the largest cursor in bytes that a page token holds.
const MaxCursor = MaxLength*3/4 - 28

// ParsePage reads a page token. It fails with ErrInvalid where it is none of
// this purpose, and with ErrMismatch where the request is another one.
func ParsePage(purpose string, request Fingerprint, s string) (cursor []byte, err error) {
	content, err := open(page, s)
	if err != nil {
		return nil, err
	}
	p := purposeDigest(purpose)
	if len(content) < len(p)+len(request) {
		return nil, fmt.Errorf("page token: %d bytes: %w", len(content), ErrInvalid)
	}
	if string(content[:len(p)]) != string(p[:]) {
		return nil, fmt.Errorf("page token of another list: %w", ErrInvalid)
	}
	content = content[len(p):]
	if string(content[:len(request)]) != string(request[:]) {
		return nil, fmt.Errorf("page token for %s: %w", purpose, ErrMismatch)
	}
	return content[len(request):], nil
}

// purposeDigest brings a purpose to a fixed size.
func purposeDigest(purpose string) [4]byte {
	sum := sha256.Sum256([]byte("parley page\x00" + purpose))
	return [4]byte(sum[:4])
}
