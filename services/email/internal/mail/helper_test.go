package mail_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/mail"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is one mail of the public test data.
type sample struct {
	name string // folder and file
	raw  []byte
}

// sharedMails reads the mails of a folder under data/email of the shared data,
// which lies beside the repository unless PARLEY_SHARED_DATA says otherwise.
func sharedMails(tb testing.TB, folder string) []sample {
	tb.Helper()
	root := os.Getenv("PARLEY_SHARED_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "..", "shared", "data")
	}
	dir := filepath.Join(root, "email", folder)
	files, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		tb.Skipf("no test data at %s; set PARLEY_SHARED_DATA", dir)
	}
	require.NoError(tb, err)
	var mails []sample
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(tb, err)
		mails = append(mails, sample{name: folder + "/" + f.Name(), raw: raw})
	}
	require.NotEmpty(tb, mails)
	return mails
}

var sharedFolders = []string{"easy_ham", "enmime/testdata/mail", "enmime/testdata/parts", "enmime/testdata/low-quality", "enmime/dsn/testdata"}

func parse(lines ...string) *mail.Mail {
	return mail.Parse([]byte(strings.Join(lines, "\n")), mail.Limits{})
}

func codes(m *mail.Mail) []mail.DefectCode {
	var list []mail.DefectCode
	for _, d := range m.Defects {
		list = append(list, d.Code)
	}
	return list
}

func hasDefect(m *mail.Mail, code mail.DefectCode) bool {
	for _, d := range m.Defects {
		if d.Code == code {
			return true
		}
	}
	return false
}

// requireInvariants checks what holds for every Mail, of whatever bytes.
func requireInvariants(tb testing.TB, raw []byte, m *mail.Mail, limits mail.Limits) {
	tb.Helper()
	text := func(what, s string) {
		if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			tb.Fatalf("%s is not text: %q", what, s)
		}
	}
	line := func(what, s string, longest int) {
		text(what, s)
		if strings.ContainsAny(s, "\r\n") || len(s) > longest {
			tb.Fatalf("%s is no line of at most %d bytes: %q", what, longest, s)
		}
	}
	const anyLength = 1 << 30
	require.NotEmpty(tb, m.MessageID)
	line("message id", m.MessageID, mail.MaxIDBytes)
	line("in reply to", m.InReplyTo, mail.MaxIDBytes)
	require.LessOrEqual(tb, len(m.References), mail.MaxReferences)
	for _, id := range m.References {
		require.NotEmpty(tb, id)
		line("reference", id, mail.MaxIDBytes)
	}
	line("subject", m.Subject, anyLength)
	for _, list := range [][]mail.Address{m.From, m.Sender, m.ReplyTo, m.To, m.Cc} {
		requireAddresses(tb, list)
	}
	require.LessOrEqual(tb, len(m.EnvelopeRecipients), mail.MaxAddresses)
	for _, a := range m.EnvelopeRecipients {
		line("envelope recipient", a, mail.MaxAddressBytes)
	}
	line("return path", m.ReturnPath, mail.MaxAddressBytes)
	text("text", m.Text)
	text("html", m.HTML)
	require.NotContains(tb, m.Text, "\r")
	require.LessOrEqual(tb, len(m.Text), 4*len(raw)+2048, "text grows within bounds")
	require.LessOrEqual(tb, len(m.Attachments), 2*max(limits.MaxParts, mail.DefaultMaxParts))
	content := 0
	for _, a := range m.Attachments {
		line("file name", a.FileName, 255)
		line("media type", a.MediaType, 128)
		require.Contains(tb, a.MediaType, "/")
		line("content id", a.ContentID, mail.MaxIDBytes)
		content += len(a.Content)
	}
	require.LessOrEqual(tb, content, len(raw)+3*len(m.Attachments))
	require.Equal(tb, m.AutoReply, m.AutoReplyReason != "")
	line("list id", m.ListID, 512)
	for _, value := range m.AuthenticationResults {
		line("authentication results", value, anyLength)
	}
	require.LessOrEqual(tb, len(m.Defects), mail.MaxDefects)
	for _, d := range m.Defects {
		require.NotEmpty(tb, d.Code)
		line("defect", d.Text, 200)
	}
	if r := m.Report; r != nil {
		require.True(tb, m.AutoReply)
		require.NotEmpty(tb, r.Kind)
		require.NotEmpty(tb, r.Dialect)
		line("reported id", r.MessageID, mail.MaxIDBytes)
		require.LessOrEqual(tb, len(r.Recipients), mail.MaxReportRecipients)
		for _, to := range r.Recipients {
			line("final recipient", to.Final, mail.MaxAddressBytes)
			line("original recipient", to.Original, mail.MaxAddressBytes)
			line("diagnostic", to.Diagnostic, 2000)
			line("status", to.Status, 11)
			line("remote", to.RemoteMTA, anyLength)
		}
	}
	requireYear(tb, m.Date)
}

func requireAddresses(tb testing.TB, list []mail.Address) {
	tb.Helper()
	require.LessOrEqual(tb, len(list), mail.MaxAddresses)
	for _, a := range list {
		require.NotEmpty(tb, a.Address)
		require.LessOrEqual(tb, len(a.Address), mail.MaxAddressBytes)
		require.True(tb, utf8.ValidString(a.Address) && utf8.ValidString(a.Name))
		require.False(tb, strings.ContainsAny(a.Address+a.Name, "\x00\r\n"))
	}
}

func requireYear(tb testing.TB, date time.Time) {
	tb.Helper()
	if !date.IsZero() {
		require.True(tb, date.Year() >= 1970 && date.Year() <= 9999, "%s", date)
	}
}

// digest stands for a text of the shared data, which is not copied.
func digest(s string) string {
	return fmt.Sprintf("%d bytes, %x, begins %q", len(s), sha256.Sum256([]byte(s)), cutRunes(s, 40))
}

func cutRunes(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// describe writes a Mail as text for golden files.
func describe(m *mail.Mail, show func(string) string) string {
	var out strings.Builder
	row := func(name string, value any) {
		if text := fmt.Sprintf("%v", value); text != "" && text != "[]" && text != "false" && text != "0" {
			fmt.Fprintf(&out, "%s: %s\n", name, text)
		}
	}
	addresses := func(name string, list []mail.Address) {
		for _, a := range list {
			fmt.Fprintf(&out, "%s: <%s> %q\n", name, a.Address, a.Name)
		}
	}
	row("id", m.MessageID)
	row("derived", m.MessageIDDerived)
	row("in reply to", m.InReplyTo)
	row("references", strings.Join(m.References, " "))
	row("subject", m.Subject)
	addresses("from", m.From)
	addresses("sender", m.Sender)
	addresses("reply to", m.ReplyTo)
	addresses("to", m.To)
	addresses("cc", m.Cc)
	if !m.Date.IsZero() {
		row("date", m.Date.Format(time.RFC3339))
	}
	row("envelope", strings.Join(m.EnvelopeRecipients, " "))
	row("return path", m.ReturnPath)
	row("null return path", m.NullReturnPath)
	row("automatic", string(m.AutoReplyReason))
	row("list", m.ListID)
	row("received", m.Received)
	for _, a := range m.Attachments {
		fmt.Fprintf(&out, "attachment: %q %s cid=%q inline=%v %d bytes\n", a.FileName, a.MediaType, a.ContentID, a.Inline, len(a.Content))
	}
	if r := m.Report; r != nil {
		fmt.Fprintf(&out, "report: %s %s id=%q by=%q", r.Kind, r.Dialect, r.MessageID, r.ReportingMTA)
		if !r.ArrivalDate.IsZero() {
			fmt.Fprintf(&out, " arrived=%s", r.ArrivalDate.Format(time.RFC3339))
		}
		fmt.Fprintf(&out, " disposition=%q feedback=%q\n", r.Disposition, r.FeedbackType)
		for _, to := range r.Recipients {
			fmt.Fprintf(&out, "  recipient: %s (%s) %s %q %q by=%q\n", to.Final, to.Original, to.Outcome, to.Status, to.Diagnostic, to.RemoteMTA)
		}
	}
	for _, d := range m.Defects {
		fmt.Fprintf(&out, "defect: %s %q\n", d.Code, d.Text)
	}
	fmt.Fprintf(&out, "text (html %v):\n%s\n", m.TextFromHTML, show(m.Text))
	if m.HTML != "" {
		fmt.Fprintf(&out, "html:\n%s\n", show(m.HTML))
	}
	return out.String()
}
