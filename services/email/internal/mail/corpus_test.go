package mail_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"unicode"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset"
	gomail "github.com/emersion/go-message/mail"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/charmap"

	"github.com/parleyhq/parley/services/email/internal/mail"
)

// counts is a row of the table that TestCorpus prints.
type counts struct {
	mails, text, htmlOnly, noText, attachments, reports, auto, lists, derived, dates, replies, threaded int
	defects                                                                                             map[mail.DefectCode]int
}

// Every sample keeps the invariants, has an id, and loses no text that a crude
// look at its bytes finds.
func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, folder := range sharedFolders {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			c := counts{defects: map[mail.DefectCode]int{}}
			ids := map[string]bool{}
			var mails []*mail.Mail
			samples := sharedMails(t, folder)
			for _, s := range samples {
				m := mail.Parse(s.raw, mail.Limits{})
				requireInvariants(t, s.raw, m, mail.Limits{})
				require.Equal(t, m, mail.Parse(bytes.Clone(s.raw), mail.Limits{}), "%s: the same bytes, another mail", s.name)
				if crudeText(s.raw) {
					require.NotEmpty(t, strings.TrimSpace(m.Text), "%s: text lost", s.name)
				}
				requireLines(t, s, m)
				count(&c, m)
				ids[m.MessageID] = true
				mails = append(mails, m)
			}
			for i, m := range mails {
				if m.InReplyTo != "" || len(m.References) > 0 {
					c.replies++
					if ids[m.InReplyTo] || slices.ContainsFunc(m.References, func(id string) bool { return ids[id] }) {
						c.threaded++
					}
				}
				// What a reply's header says by the book is found.
				for _, id := range crudeReferences(samples[i].raw) {
					require.Contains(t, append(slices.Clone(m.References), m.InReplyTo), id, "%s", samples[i].name)
				}
			}
			t.Log(c.table(folder))
			if folder == "easy_ham" {
				require.Equal(t, 300, c.mails)
				require.Equal(t, 300, c.text+c.htmlOnly)
				require.Zero(t, c.derived, "each of them has an id")
				require.Len(t, ids, 300-crudeDuplicates(samples))
				require.Equal(t, crudeThreaded(samples), c.threaded, "replies to mails of the same folder")
				require.GreaterOrEqual(t, c.threaded, 70)
			}
			if folder == "enmime/dsn/testdata" {
				require.Equal(t, c.mails, c.reports)
			}
		})
	}
}

func count(c *counts, m *mail.Mail) {
	c.mails++
	switch {
	case strings.TrimSpace(m.Text) == "":
		c.noText++
	case m.TextFromHTML:
		c.htmlOnly++
	default:
		c.text++
	}
	c.attachments += len(m.Attachments)
	add := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	add(&c.reports, m.Report != nil)
	add(&c.auto, m.AutoReply)
	add(&c.lists, m.AutoReplyReason == mail.AutoList)
	add(&c.derived, m.MessageIDDerived)
	add(&c.dates, !m.Date.IsZero())
	seen := map[mail.DefectCode]bool{}
	for _, d := range m.Defects {
		if !seen[d.Code] {
			seen[d.Code] = true
			c.defects[d.Code]++
		}
	}
}

func (c *counts) table(folder string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %d mails; text %d, text from HTML %d, no text %d; attachments %d; reports %d; automatic %d, of lists %d; derived ids %d; dates %d; replies %d, to a mail here %d",
		folder, c.mails, c.text, c.htmlOnly, c.noText, c.attachments, c.reports, c.auto, c.lists, c.derived, c.dates, c.replies, c.threaded)
	var rows []string
	for code, n := range c.defects {
		rows = append(rows, fmt.Sprintf("  defect %-20s in %d mails", code, n))
	}
	sort.Strings(rows)
	return out.String() + "\n" + strings.Join(rows, "\n")
}

var (
	crudeType    = regexp.MustCompile(`(?im)^content-type:[ \t]*text/(plain|html)\b`)
	crudeHas     = regexp.MustCompile(`(?im)^content-type:`)
	crudeRefs    = regexp.MustCompile(`(?im)^references:((?:.*\r?\n[ \t])*.*)`)
	crudeThread  = regexp.MustCompile(`(?im)^(?:references|in-reply-to):(?:.*\r?\n[ \t])*.*`)
	crudeID      = regexp.MustCompile(`<([^<>\s]+@[^<>\s]+)>`)
	crudeOwn     = regexp.MustCompile(`(?im)^message-id:\s*<([^<>\s]+)>`)
	crudeEncoded = regexp.MustCompile(`(?im)^content-transfer-encoding:[ \t]*(base64|quoted-printable)|^content-type:[ \t]*(multipart|message|application|image|text/html|text/enriched)`)
)

// crudeText finds a text part with content without parsing: a line that says the
// type, an empty line, and a letter before the next boundary; or a mail without
// any type, with letters behind its header.
func crudeText(raw []byte) bool {
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	head, body, ok := strings.Cut(text, "\n\n")
	if ok && !crudeHas.MatchString(head) {
		return strings.IndexFunc(body, unicode.IsLetter) >= 0
	}
	for _, at := range crudeType.FindAllStringIndex(text, -1) {
		rest := text[at[0]:]
		fields, content, ok := strings.Cut(rest, "\n\n")
		if !ok || strings.Contains(strings.ToLower(fields), "attachment") || strings.Contains(fields, "\n--") || !strings.HasSuffix(text[:at[0]], "\n") && at[0] > 0 {
			continue
		}
		content, _, _ = strings.Cut(content, "\n--")
		if strings.IndexFunc(content, unicode.IsLetter) >= 0 && !strings.HasPrefix(strings.TrimSpace(content), "--") {
			return true
		}
	}
	return false
}

// crudeReferences gives the ids in brackets of the References field in the header.
func crudeReferences(raw []byte) []string {
	head, _, _ := strings.Cut(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n\n")
	var ids []string
	for _, m := range crudeRefs.FindAllStringSubmatch(head, -1) {
		for _, id := range crudeID.FindAllStringSubmatch(m[1], -1) {
			ids = append(ids, id[1])
		}
	}
	return ids
}

// crudeThreaded counts mails that say the id of another one in the two fields.
func crudeThreaded(samples []sample) int {
	own := map[string]bool{}
	for _, s := range samples {
		if m := crudeOwn.FindSubmatch(s.raw); m != nil {
			own[string(m[1])] = true
		}
	}
	n := 0
	for _, s := range samples {
		head, _, _ := strings.Cut(string(s.raw), "\n\n")
		for _, field := range crudeThread.FindAllString(head, -1) {
			if slices.ContainsFunc(crudeID.FindAllStringSubmatch(field, -1), func(m []string) bool { return own[m[1]] }) {
				n++
				break
			}
		}
	}
	return n
}

// crudeDuplicates counts mails whose id an earlier one has.
func crudeDuplicates(samples []sample) int {
	seen, n := map[string]bool{}, 0
	for _, s := range samples {
		if m := crudeOwn.FindSubmatch(s.raw); m != nil {
			if seen[string(m[1])] {
				n++
			}
			seen[string(m[1])] = true
		}
	}
	return n
}

// requireLines checks of a mail of one part that is not encoded that every line
// of ASCII is in the text.
func requireLines(t *testing.T, s sample, m *mail.Mail) {
	t.Helper()
	head, body, ok := bytes.Cut(bytes.ReplaceAll(s.raw, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	if !ok || crudeEncoded.Match(head) || len(m.Attachments) > 0 || len(m.From) == 0 {
		return
	}
	lines := map[string]bool{}
	for line := range strings.SplitSeq(m.Text, "\n") {
		lines[line] = true
	}
	for line := range strings.SplitSeq(string(body), "\n") {
		if strings.IndexFunc(line, func(r rune) bool { return r >= 0x7f || r < ' ' && r != '\t' }) < 0 {
			require.True(t, lines[line], "%s: line lost: %q", s.name, line)
		}
	}
}

// Wherever go-message, another reader of MIME, reads a mail without an error,
// both find the same texts, attachments, subject and addresses.
func TestAgreesWithGoMessage(t *testing.T) {
	t.Parallel()
	compared, leaves, failed := 0, 0, 0
	for _, folder := range sharedFolders {
		for _, s := range sharedMails(t, folder) {
			raw := s.raw
			if bytes.HasPrefix(raw, []byte("From ")) {
				_, raw, _ = bytes.Cut(raw, []byte{'\n'})
			}
			n, err := compareWithGoMessage(t, s.name, raw)
			if err != nil {
				failed++
				continue
			}
			compared++
			leaves += n
		}
	}
	t.Logf("%d mails compared, %d leaves; %d that go-message cannot read whole", compared, leaves, failed)
	require.GreaterOrEqual(t, compared, 300)
	require.GreaterOrEqual(t, leaves, 330)
}

// theirLeaf is a part as go-message reads it.
type theirLeaf struct {
	mediaType, disposition string
	content                []byte
	charset                string
}

func readWithGoMessage(raw []byte) (*message.Entity, []theirLeaf, error) {
	root, err := message.Read(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, err
	}
	var leaves []theirLeaf
	err = root.Walk(func(_ []int, e *message.Entity, err error) error {
		if err != nil {
			return err
		}
		mediaType, params, err := e.Header.ContentType()
		if err != nil || strings.HasPrefix(mediaType, "multipart/") {
			return err
		}
		content, err := io.ReadAll(e.Body)
		disposition, _, _ := e.Header.ContentDisposition()
		leaves = append(leaves, theirLeaf{mediaType, disposition, content, params["charset"]})
		return err
	})
	return root, leaves, err
}

// western reads the control characters of C1 as what they are in mails:
// Windows-1252 that is labelled ISO 8859-1.
func western(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x80 && r < 0xa0 {
			return charmap.Windows1252.DecodeByte(byte(r))
		}
		return r
	}, s)
}

func compareWithGoMessage(t *testing.T, name string, raw []byte) (leaves int, err error) {
	t.Helper()
	root, theirs, err := readWithGoMessage(raw)
	if err != nil {
		return 0, err
	}
	m := mail.Parse(raw, mail.Limits{})
	for _, d := range m.Defects {
		switch d.Code {
		case mail.DefectCharsetWrong, mail.DefectCharsetMissing, mail.DefectCharsetUnknown, mail.DefectEncoding, mail.DefectBoundary,
			mail.DefectHeaderEnd, mail.DefectQuotedPrintable, mail.DefectNUL, mail.DefectContentType, mail.DefectNoHeader:
			// What was guessed may differ.
			return 0, fmt.Errorf("guessed: %s", d.Code)
		default:
		}
	}
	normal := func(s string) string {
		return strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), " \n", "\n"))
	}
	text, html := normal(m.Text), normal(m.HTML)
	rootType, _, _ := root.Header.ContentType()
	for i, leaf := range theirs {
		content := normal(western(string(leaf.content)))
		inText := leaf.mediaType == "text/plain" && strings.Contains(text, content)
		inHTML := leaf.mediaType == "text/html" && strings.Contains(html, content)
		attached := slices.ContainsFunc(m.Attachments, func(a mail.Attachment) bool {
			return bytes.Equal(a.Content, leaf.content) || normal(string(a.Content)) == content
		})
		enriched := leaf.mediaType == "text/enriched" && text != ""
		if leaf.mediaType == "text/html" && leaf.charset == "" {
			// It does not look for the charset in the HTML.
			continue
		}
		// Of alternatives of one type one is chosen.
		alternative := i > 0 && rootType == "multipart/alternative" && text != ""
		require.True(t, inText || inHTML || attached || enriched || alternative || content == "", "%s: %s %s of go-message is not here: %.200q\n%.200q", name, leaf.mediaType, leaf.disposition, content, text)
	}
	header := gomail.Header{Header: root.Header}
	if subject, err := header.Subject(); err == nil {
		require.Equal(t, strings.Join(strings.Fields(subject), " "), strings.Join(strings.Fields(m.Subject), " "), "%s", name)
	}
	for field, ours := range map[string][]mail.Address{"From": m.From, "To": m.To, "Cc": m.Cc} {
		list, err := header.AddressList(field)
		if err != nil || len(root.Header.Values(field)) != 1 {
			continue
		}
		var want, got []string
		for _, a := range list {
			want = append(want, a.Address)
		}
		for _, a := range ours {
			got = append(got, a.Address)
		}
		require.Equal(t, want, got, "%s: %s: %s", name, field, root.Header.Get(field))
	}
	if date, err := header.Date(); err == nil && !date.IsZero() {
		require.True(t, date.Equal(m.Date), "%s: %s, not %s", name, m.Date, date)
	}
	return len(theirs), nil
}

func whole(s string) string { return s }

// The samples under testdata, each with what became of it.
func TestGoldens(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.eml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		requireGolden(t, strings.TrimSuffix(file, ".eml")+".golden", describe(mail.Parse(raw, mail.Limits{}), whole))
	}
}

// Of the shared mails those of enmime, by digest.
func TestSharedGoldens(t *testing.T) {
	t.Parallel()
	for _, folder := range sharedFolders[1:] {
		var out strings.Builder
		for _, s := range sharedMails(t, folder) {
			fmt.Fprintf(&out, "=== %s\n%s\n", filepath.Base(s.name), describe(mail.Parse(s.raw, mail.Limits{}), digest))
		}
		requireGolden(t, filepath.Join("testdata", strings.ReplaceAll(folder, "/", "_")+".golden"), out.String())
	}
}

func requireGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "%s", file)
}
