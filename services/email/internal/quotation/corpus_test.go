package quotation_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/quotation"
)

// fixture is a file of the corpus with the new text that was expected of it:
// reply and signature together, since that corpus has signatures in its replies.
type fixture struct {
	group, name   string
	got           quotation.Parts
	want          string
	wantSignature string
	// separate tells that want excludes the signature.
	separate bool
}

// squeeze makes texts comparable that differ in white space alone.
func squeeze(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(s, "\u00a0", " ")), " ")
}

func TestReplyCorpus(t *testing.T) {
	t.Parallel()
	dir := dataDir(t, "email", "talon", "tests", "fixtures")
	var all []fixture
	for _, read := range []func(*testing.T, string) []fixture{clientFixtures, htmlFixtures, singleFixtures, signatureFixtures} {
		all = append(all, read(t, dir)...)
	}
	right, cases := map[string]int{}, map[string]int{}
	for _, f := range all {
		cases[f.group]++
		said := squeeze(f.got.Reply + "\n" + f.got.Signature)
		if f.separate {
			said = squeeze(f.got.Reply)
		}
		if said == squeeze(f.want) && (!f.separate || squeeze(f.got.Signature) == squeeze(f.wantSignature)) {
			right[f.group]++

			continue
		}
		t.Logf("%s %s\n  want %.300q signature %.300q\n  got  %.300q signature %.300q quoted %.200q", f.group, f.name, squeeze(f.want), squeeze(f.wantSignature), squeeze(f.got.Reply), squeeze(f.got.Signature), squeeze(f.got.Quoted))
	}
	groups := make([]string, 0, len(cases))
	for g := range cases {
		groups = append(groups, g)
	}
	sort.Strings(groups)
	table := fmt.Sprintf("%-24s %5s %5s", "fixtures", "cases", "right")
	for _, g := range groups {
		table += fmt.Sprintf("\n%-24s %5d %5d", g, cases[g], right[g])
	}
	t.Log("\n" + table)
	for g, floor := range map[string]int{"client text": 12, "client html": 7, "html": 9, "single": 4, "signature": 6} {
		require.GreaterOrEqual(t, right[g], floor, g)
	}
}

// clientFixtures are replies of mail programs, in the text and the HTML part.
func clientFixtures(t *testing.T, dir string) []fixture {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "standard_replies", "*.eml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var all []fixture
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		want := "Hello"
		if data, err := os.ReadFile(strings.TrimSuffix(file, ".eml") + "_reply_text"); err == nil {
			want = string(data)
		}
		b := readMail(t, file)
		p := quotation.Split(b.text)
		requireCovered(t, b.text, p)
		all = append(all, fixture{group: "client text", name: name, got: p, want: want})
		if b.html == "" {
			continue
		}
		p, ok := quotation.SplitHTML(b.html)
		require.True(t, ok)
		requireSameLetters(t, b.html, p)
		switch name {
		case "outlook":
			want = "Allo! Follow up MIME!"
		case "sparrow":
			// The address is a link there, not text.
			want = strings.Replace(want, " (http://www.sparrowmailapp.com/?sig)", "", 1)
		}
		all = append(all, fixture{group: "client html", name: name, got: p, want: want})
	}

	return all
}

func htmlFixtures(t *testing.T, dir string) []fixture {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "html_replies", "*.html"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var all []fixture
	for _, file := range files {
		all = append(all, htmlFixture(t, "html", file, "Hi. I am fine. Thanks, Alex"))
	}

	return all
}

func htmlFixture(t *testing.T, group, file, want string) fixture {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	p, ok := quotation.SplitHTML(string(data))
	require.True(t, ok)
	requireSameLetters(t, string(data), p)

	return fixture{group: group, name: filepath.Base(file), got: p, want: want}
}

func singleFixtures(t *testing.T, dir string) []fixture {
	t.Helper()
	shared := readMail(t, filepath.Join(dir, "reply-quotations-share-block.eml"))
	reply, _, found := strings.Cut(shared.text, "--- On ")
	require.True(t, found)
	html, ok := quotation.SplitHTML(shared.html)
	require.True(t, ok)

	return []fixture{
		htmlFixture(t, "single", filepath.Join(dir, "OLK_SRC_BODY_SECTION.html"), "Reply"),
		htmlFixture(t, "single", filepath.Join(dir, "reply-separated-by-hr.html"), "Hi there Bob"),
		{group: "single", name: "share-block text", got: quotation.Split(shared.text), want: reply},
		{group: "single", name: "share-block html", got: html, want: strings.ReplaceAll(reply, "Joe XXX", "Jhon Doe")},
	}
}

// signatureFixtures hold a body and the signature in it, or marks before the
// lines of a body.
func signatureFixtures(t *testing.T, dir string) []fixture {
	t.Helper()
	dir = filepath.Join(dir, "signature", "emails")
	files, err := filepath.Glob(filepath.Join(dir, "stripped", "*_body"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var all []fixture
	for _, file := range append(files, filepath.Join(dir, "P", "102682_R_S")) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var signature string
		if s, err := os.ReadFile(strings.TrimSuffix(file, "_body") + "_signature"); err == nil {
			signature = strings.ReplaceAll(string(s), "#sig#", "")
		}
		var text, reply strings.Builder
		head := strings.HasSuffix(file, "_S")
		for l := range strings.Lines(string(data)) {
			switch {
			case head:
				// The header of a posting, up to the first blank line.
				head = strings.TrimSpace(l) != ""
			case strings.HasPrefix(l, "#reply#"):
				text.WriteString(strings.TrimPrefix(l, "#reply#"))
			case strings.HasPrefix(l, "#sig#"):
				l = strings.TrimPrefix(l, "#sig#")
				text.WriteString(l)
				if strings.HasSuffix(file, "_S") {
					signature += l
				}
			default:
				text.WriteString(l)
				reply.WriteString(l)
			}
		}
		want := squeeze(reply.String())
		want = strings.TrimSuffix(want, squeeze(signature))
		p := quotation.Split(text.String())
		requireCovered(t, text.String(), p)
		all = append(all, fixture{group: "signature", name: filepath.Base(file), got: p, want: want, wantSignature: signature, separate: true})
	}

	return all
}

// TestListMails splits real mails of mailing lists.
func TestListMails(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(dataDir(t, "email", "easy_ham"), "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var marked, quoted, signed, interleaved, empty, missed int
	for _, file := range files {
		b := readMail(t, file)
		p := quotation.Split(b.text)
		requireCovered(t, b.text, p)
		if b.html != "" {
			h, ok := quotation.SplitHTML(b.html)
			require.True(t, ok)
			requireSameLetters(t, b.html, h)
		}
		has := strings.Contains("\n"+b.text, "\n>")
		count(&marked, has)
		count(&quoted, p.Quoted != "")
		count(&missed, has && p.Quoted == "")
		count(&signed, p.Signature != "")
		count(&interleaved, p.Interleaved)
		count(&empty, p.Reply == "" && b.text != "")
	}
	t.Logf("%d mails: %d with lines marked by >, %d with a quotation split off, %d marked but none split off, %d interleaved, %d signed, %d with no reply",
		len(files), marked, quoted, missed, interleaved, signed, empty)
	// The two that are left whole forward what they quote.
	require.GreaterOrEqual(t, quoted, 170)
	require.LessOrEqual(t, missed, 2)
	require.Zero(t, empty)
}

func count(n *int, is bool) {
	if is {
		*n++
	}
}
