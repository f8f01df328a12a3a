package webhook

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
)

const (
	// maxFields bounds the fields of a form and the parts of a multipart body.
	// Mailgun sends each header of a mail as a field of its own.
	maxFields = 2000
	// maxFieldName bounds the name of a field in bytes.
	maxFieldName = 256
)

const (
	typeForm      = "application/x-www-form-urlencoded"
	typeMultipart = "multipart/form-data"
	typeJSON      = "application/json"
)

// form is what a form said. Of a field that comes twice the first counts.
type form struct {
	values map[string]string
	files  map[string]file
}

// file is a part that the vendor's name for it makes a file.
type file struct {
	name, contentType string
	content           []byte
}

// has tells a field that came, maybe empty.
func (f form) has(name string) bool {
	_, ok := f.values[name]
	return ok
}

var (
	errFields = errors.New("too many fields")
	errName   = errors.New("the name of a field is too long")
)

// mediaType reads a Content-Type header.
func mediaType(v Vendor, header string, allowed ...string) (string, map[string]string, error) {
	t, params, err := mime.ParseMediaType(header)
	if err == nil {
		for _, a := range allowed {
			if t == a {
				return t, params, nil
			}
		}
	}
	header = strings.ToValidUTF8(header[:min(len(header), 100)], "")
	return "", nil, &ContentTypeError{Vendor: v, Got: header}
}

// readForm reads a form of either type. On an error that is no ContentTypeError
// the form has what came before it.
func readForm(v Vendor, req Request, isFile func(field string) bool, types ...string) (form, error) {
	f := form{values: map[string]string{}, files: map[string]file{}}
	t, params, err := mediaType(v, req.ContentType, types...)
	if err != nil {
		return f, err
	}
	if t == typeForm {
		return f, f.readURLEncoded(string(req.Body))
	}
	return f, f.readMultipart(req.Body, params["boundary"], isFile)
}

// readURLEncoded reads each pair where it stands: the standard library's parser
// takes a raw semicolon for an error and drops the field.
func (f *form) readURLEncoded(body string) error {
	n := 0
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		if n++; n > maxFields {
			return errFields
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return err
		}
		if len(name) > maxFieldName {
			return errName
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return err
		}
		if !f.has(name) {
			f.values[name] = value
		}
	}
	return nil
}

func (f *form) readMultipart(body []byte, boundary string, isFile func(string) bool) error {
	if boundary == "" {
		return errors.New("there is no boundary")
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for range maxFields {
		// Raw: a transfer encoding is the mail's own, not the form's.
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return whole(body, boundary)
		}
		if err != nil {
			return err
		}
		name := part.FormName()
		if len(name) > maxFieldName {
			return errName
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		if isFile(name) {
			if _, twice := f.files[name]; !twice {
				f.files[name] = file{name: fileName(part), contentType: part.Header.Get("Content-Type"), content: content}
			}
			continue
		}
		if !f.has(name) {
			f.values[name] = string(content)
		}
	}
	if _, err := r.NextRawPart(); !errors.Is(err, io.EOF) {
		return errFields
	}
	return whole(body, boundary)
}

// whole tells a body that ended from one that broke off between two parts: the
// standard library's reader says EOF of both.
func whole(body []byte, boundary string) error {
	if !bytes.Contains(body, []byte("--"+boundary+"--")) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// fileName is the name as sent; the standard library's cuts directories off.
func fileName(part *multipart.Part) string {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return part.FileName()
	}
	return params["filename"]
}

// numbered tells names like `attachment-1`.
func numbered(name, prefix string) bool {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || digits == "" || len(digits) > 4 {
		return false
	}
	return strings.Trim(digits, "0123456789") == ""
}
