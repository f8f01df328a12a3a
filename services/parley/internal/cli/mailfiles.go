package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A file of mails is one mail, or an mbox: mails behind each other, each behind
// a line `From address date` (RFC 4155). Lines of a mail that begin so have a >
// before them, and one more for each that was there already (the form mboxrd).

const (
	// maxMail is the largest mail that is read, in bytes; no server takes larger ones.
	maxMail = 64 << 20
	// sniffBytes of a file's beginning tell what it is.
	sniffBytes = 4096
	// fileBuffer is read at a time, in bytes.
	fileBuffer = 256 << 10
)

// foundMail is a mail in a file.
type foundMail struct {
	file string
	// number within an mbox, from 1; 0 for a file that is one mail.
	number int
	raw    []byte
	// taken is when the mailbox took it; zero where that is not said.
	taken time.Time
}

func (m foundMail) String() string {
	if m.number == 0 {
		return m.file
	}
	return fmt.Sprintf("%s: mail %d", m.file, m.number)
}

// mailFiles goes through files and folders. found is called for each mail, and
// other for what is none; their errors end it.
type mailFiles struct {
	stdin io.Reader
	// open wraps what is read of a file.
	wrap  func(io.Reader) io.Reader
	found func(foundMail) error
	other func(name foundMail, why string) error
}

func (f *mailFiles) walk(names []string) error {
	for _, name := range names {
		if name == "-" {
			if err := f.read("standard input", f.stdin); err != nil {
				return err
			}
			continue
		}
		err := filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return fmt.Errorf("import: %w", err)
			case path != name && strings.HasPrefix(d.Name(), "."):
				// Maildir's folders within begin with a dot; other hidden files are notes of programs.
				if d.IsDir() && isMaildir(path) {
					return nil
				}
				return skip(d)
			case d.IsDir():
				return nil
			case path != name && !d.Type().IsRegular():
				return nil
			}
			return f.file(path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return filepath.SkipDir
	}
	return nil
}

func isMaildir(path string) bool {
	info, err := os.Stat(filepath.Join(path, "cur"))
	return err == nil && info.IsDir()
}

func (f *mailFiles) file(name string) (err error) {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	return f.read(name, file)
}

func (f *mailFiles) read(name string, from io.Reader) error {
	r, err := unpacked(f.wrap(from))
	if err != nil {
		return fmt.Errorf("import %s: %w", name, err)
	}
	head, err := r.Peek(sniffBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("import %s: %w", name, err)
	}
	one := foundMail{file: name}
	switch {
	case len(bytes.TrimSpace(head)) == 0 && errors.Is(err, io.EOF):
		return f.other(one, "is empty")
	case isMbox(head):
		return f.mbox(name, r)
	case !looksLikeMail(head):
		return f.other(one, "is no mail: it does not begin with a header")
	}
	one.raw, err = io.ReadAll(io.LimitReader(r, maxMail+1))
	switch {
	case err != nil:
		return fmt.Errorf("import %s: %w", name, err)
	case len(one.raw) > maxMail:
		return f.other(one, tooLargeMail)
	}
	return f.found(one)
}

var tooLargeMail = fmt.Sprintf("is larger than %d bytes", maxMail)

func (f *mailFiles) mbox(name string, r *bufio.Reader) error {
	m := mbox{r: r}
	for n := 1; ; n++ {
		one := foundMail{file: name, number: n}
		var large bool
		var err error
		one.raw, one.taken, large, err = m.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("import %s: mail %d: %w", name, n, err)
		case large:
			err = f.other(one, tooLargeMail)
		default:
			err = f.found(one)
		}
		if err != nil {
			return err
		}
	}
}

// unpacked reads gzip and plain files alike.
func unpacked(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, fileBuffer)
	if magic, _ := b.Peek(2); !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return b, nil // an error comes again with the first read
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return bufio.NewReaderSize(z, fileBuffer), nil
}

// mbox reads the mails of an mbox one after the other.
type mbox struct {
	r *bufio.Reader
	// from is the line before the next mail.
	from  []byte
	begun bool
}

// next gives the next mail, without the empty line that ends it, and when it
// was taken; io.EOF behind the last. Of one that is too large nothing is kept.
func (m *mbox) next() (raw []byte, taken time.Time, large bool, err error) {
	if !m.begun {
		m.begun = true
		if m.from, _, err = m.line(); err != nil {
			return nil, time.Time{}, false, err
		}
	}
	if m.from == nil {
		return nil, time.Time{}, false, io.EOF
	}
	taken = fromTime(m.from)
	m.from = nil
	blank := false // the line before was empty
	for {
		line, whole, err := m.line()
		if errors.Is(err, io.EOF) {
			return raw, taken, large, nil
		}
		if err != nil {
			return nil, time.Time{}, false, err
		}
		if blank && isFromLine(line) {
			m.from = bytes.Clone(line)
			return withoutLastLine(raw), taken, large, nil
		}
		blank = len(bytes.TrimRight(line, "\r\n")) == 0
		if rest := bytes.TrimLeft(line, ">"); len(rest) < len(line) && bytes.HasPrefix(rest, []byte(fromBegin)) {
			line = line[1:]
		}
		for {
			if !large {
				raw = append(raw, line...)
			}
			if len(raw) > maxMail {
				raw, large = nil, true
			}
			if whole {
				break
			}
			if line, whole, err = m.line(); err != nil && !errors.Is(err, io.EOF) {
				return nil, time.Time{}, false, err
			}
			whole = whole || err != nil
		}
	}
}

// line reads a line, or the first part of a long one. It is valid until the
// next call.
func (m *mbox) line() (line []byte, whole bool, err error) {
	line, err = m.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return line, false, nil
	case errors.Is(err, io.EOF) && len(line) > 0:
		return line, true, nil
	default:
		return line, true, err
	}
}

// withoutLastLine takes off the empty line that an mbox has behind each mail.
func withoutLastLine(raw []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
}

const fromBegin = "From "

// isMbox says that a file begins as an mbox does.
func isMbox(head []byte) bool { return bytes.HasPrefix(head, []byte(fromBegin)) }

// isFromLine tells the line before a mail from a sentence: it has a time of day
// and a year.
func isFromLine(line []byte) bool {
	return bytes.HasPrefix(line, []byte(fromBegin)) && !fromTime(line).IsZero()
}

// fromLayouts are the dates of such lines: asctime's, and with a zone behind.
var fromLayouts = []string{"Jan 2 15:04:05 2006", "Jan 2 15:04 2006", "Jan 2 15:04:05 2006 -0700", "Jan 2 15:04:05 MST 2006", "Jan 2 15:04:05 -0700 2006", "2 Jan 2006 15:04:05 -0700"}

var weekdays = []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}

// fromTime reads the date of a line `From address Thu Aug 22 12:36:23 2002`;
// zero where it has none.
func fromTime(line []byte) time.Time {
	const most = 500 // bytes
	words := strings.Fields(string(line[:min(len(line), most)]))
	for i, word := range words {
		if i < 1 || !slices.Contains(weekdays, strings.TrimSuffix(word, ",")) {
			continue
		}
		text := strings.Join(words[i+1:], " ")
		for _, layout := range fromLayouts {
			if at, err := time.Parse(layout, text); err == nil {
				return at.UTC()
			}
		}
	}
	return time.Time{}
}

// looksLikeMail says that a file begins with a header field.
func looksLikeMail(head []byte) bool {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), "\r\n")
	colon := bytes.IndexByte(head, ':')
	if colon < 1 || colon > 76 {
		return false
	}
	for _, c := range bytes.TrimRight(head[:colon], " \t") {
		if c <= ' ' || c >= 0x7f || c == '{' || c == '"' {
			return false
		}
	}
	return true
}

// kindOf tells whether files are mails or lines of calls, by their beginnings.
// It gives standard input back whole.
func (a *App) kindOf(names []string, mails bool) (_ bool, stdin io.Reader, err error) {
	stdin = a.Stdin
	if mails {
		return true, stdin, nil
	}
	ofMails, ofLines := "", ""
	for _, name := range names {
		var is bool
		if name == "-" {
			r, err := unpacked(stdin)
			if err != nil {
				return false, nil, fmt.Errorf("import standard input: %w", err)
			}
			head, _ := r.Peek(sniffBytes) // an error comes again
			is, stdin = isMbox(head) || looksLikeMail(head), r
		} else if is, err = holdsMails(name); err != nil {
			return false, nil, err
		}
		if is {
			ofMails = name
		} else {
			ofLines = name
		}
	}
	if ofMails != "" && ofLines != "" {
		return false, nil, usagef("%s holds mails, %s does not: import them apart, or say --mail", ofMails, ofLines)
	}
	return ofMails != "", stdin, nil
}

func holdsMails(name string) (bool, error) {
	info, err := os.Stat(name)
	if err != nil {
		return false, fmt.Errorf("import: %w", err)
	}
	if info.IsDir() {
		return true, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return false, fmt.Errorf("import: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	r, err := unpacked(file)
	if err != nil {
		return false, fmt.Errorf("import %s: %w", name, err)
	}
	head, _ := r.Peek(sniffBytes) // whoever reads it all meets the error
	return isMbox(head) || looksLikeMail(head), nil
}
