package webhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strconv"
	"strings"
)

// draft is what a vendor's fields give of a mail, in UTF-8 but for the content
// of attachments.
type draft struct {
	header []headerField
	// text and html are nil where the mail has no such body.
	text, html  *string
	attachments []attachment
}

// attachment is a file. With a content id and a HTML body it is part of that.
type attachment struct {
	name, contentType, contentID string
	content                      []byte
}

// build writes the mail: the header fields in their order, then
//
//	mixed( alternative( text, related( html, inline files… ) ), files… )
//
// with every level left out that would have one part only. Lines end with CRLF;
// bodies are quoted-printable or base64, so that no content can look like a
// boundary. A delivery report stays multipart/report (RFC 6522).
func (d *draft) build() []byte {
	var out bytes.Buffer
	for _, f := range d.header {
		if !isStructural(f.name) {
			f.write(&out)
		}
	}
	out.WriteString("MIME-Version: 1.0\r\n")
	root := d.tree()
	root.write(&out, "=_"+d.boundary(), 0)
	return out.Bytes()
}

// isStructural tells the fields that say how a mail is built, which a rebuilt
// one says for itself.
func isStructural(name string) bool {
	name = strings.ToLower(name)
	return name == "mime-version" || strings.HasPrefix(name, "content-")
}

// boundary is a digest of the content: the same for the same mail. What begins
// with =_ is neither base64 nor quoted-printable.
func (d *draft) boundary() string {
	h := sha256.New()
	add := func(s string) {
		h.Write([]byte(strconv.Itoa(len(s))))
		h.Write([]byte{0})
		h.Write([]byte(s))
	}
	for _, f := range d.header {
		add(f.name)
		add(f.value)
	}
	for _, body := range []*string{d.text, d.html} {
		if body != nil {
			add(*body)
		}
	}
	for _, a := range d.attachments {
		add(a.name)
		add(a.contentType)
		add(a.contentID)
		h.Write(a.content)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// node is a part of the mail: with children a multipart, without them a leaf.
type node struct {
	contentType string
	params      map[string]string
	fields      []string
	content     []byte
	encoding    string
	children    []node
}

func (d *draft) tree() node {
	inline, beside := d.splitAttachments()
	var bodies []node
	if d.text != nil || d.html == nil {
		text := ""
		if d.text != nil {
			text = *d.text
		}
		bodies = append(bodies, textNode("text/plain", text))
	}
	if d.html != nil {
		html := textNode("text/html", *d.html)
		bodies = append(bodies, group("multipart/related", append([]node{html}, inline...)))
	}
	parts := append([]node{group("multipart/alternative", bodies)}, beside...)
	root := group("multipart/mixed", parts)
	if report, params := d.report(); report && len(root.children) > 0 && root.contentType == "multipart/mixed" {
		root.contentType, root.params = "multipart/report", params
	}
	return root
}

// splitAttachments makes nodes of the files: those within the HTML, and those
// beside the bodies.
func (d *draft) splitAttachments() (inline, beside []node) {
	for _, a := range d.attachments {
		if a.contentID != "" && d.html != nil {
			inline = append(inline, a.node("inline"))
		} else {
			beside = append(beside, a.node("attachment"))
		}
	}
	return inline, beside
}

// report tells a delivery report by the mail's own Content-Type.
func (d *draft) report() (bool, map[string]string) {
	for _, f := range d.header {
		if strings.EqualFold(f.name, "Content-Type") {
			t, params, err := mime.ParseMediaType(f.value)
			if err != nil || t != "multipart/report" {
				return false, nil
			}
			kept := map[string]string{}
			if kind := params["report-type"]; kind != "" {
				kept["report-type"] = kind
			}
			return true, kept
		}
	}
	return false, nil
}

func group(contentType string, children []node) node {
	if len(children) == 1 {
		return children[0]
	}
	return node{contentType: contentType, children: children}
}

func textNode(contentType, text string) node {
	var encoded bytes.Buffer
	w := quotedprintable.NewWriter(&encoded)
	// A buffer takes everything.
	_, _ = w.Write([]byte(strings.ToValidUTF8(text, "\uFFFD")))
	_ = w.Close()
	return node{
		contentType: contentType,
		params:      map[string]string{"charset": "utf-8"},
		content:     encoded.Bytes(),
		encoding:    "quoted-printable",
	}
}

func (a attachment) node(disposition string) node {
	t, params, err := mime.ParseMediaType(a.contentType)
	if err != nil || !strings.Contains(t, "/") || strings.HasPrefix(t, "multipart/") || mime.FormatMediaType(t, params) == "" {
		t, params = "application/octet-stream", nil
	}
	delete(params, "boundary")
	n := node{contentType: t, params: params}
	named := map[string]string{}
	if name := cleanText(a.name); name != "" {
		named["filename"] = name
	}
	n.fields = append(n.fields, "Content-Disposition: "+mime.FormatMediaType(disposition, named))
	if id := cleanID(a.contentID); id != "" {
		n.fields = append(n.fields, "Content-ID: <"+id+">")
	}
	if strings.HasPrefix(t, "message/") && isPlain(a.content) {
		// RFC 2046, 5.2, allows no other encoding for a mail within a mail.
		n.content, n.encoding = crlf(a.content), "7bit"
		return n
	}
	n.content, n.encoding = wrapBase64(a.content), "base64"
	return n
}

func (n node) write(out *bytes.Buffer, boundary string, level int) {
	own := boundary + "_" + strconv.Itoa(level)
	params := map[string]string{}
	for k, v := range n.params {
		params[k] = v
	}
	if len(n.children) > 0 {
		params["boundary"] = own
	}
	out.WriteString("Content-Type: " + mime.FormatMediaType(n.contentType, params) + "\r\n")
	for _, f := range n.fields {
		out.WriteString(f + "\r\n")
	}
	if len(n.children) == 0 {
		out.WriteString("Content-Transfer-Encoding: " + n.encoding + "\r\n\r\n")
		out.Write(n.content)
		return
	}
	out.WriteString("\r\n")
	for _, c := range n.children {
		out.WriteString("--" + own + "\r\n")
		c.write(out, boundary, level+1)
		out.WriteString("\r\n")
	}
	out.WriteString("--" + own + "--\r\n")
}

// isPlain tells content that 7bit can carry: ASCII in lines of at most 998
// bytes (RFC 5322, 2.1.1).
func isPlain(content []byte) bool {
	length := 0
	for i, c := range content {
		switch {
		case c == '\n':
			length = 0
		case c == '\r' && (i+1 == len(content) || content[i+1] != '\n'):
			return false
		case c == 0 || c >= 0x80:
			return false
		default:
			if length++; length > 998 {
				return false
			}
		}
	}
	return true
}

// crlf ends lines with CRLF.
func crlf(content []byte) []byte {
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(content, []byte("\n"), []byte("\r\n"))
}

// wrapBase64 encodes in lines of 76 (RFC 2045, 6.8).
func wrapBase64(content []byte) []byte {
	const perLine = 57
	var out bytes.Buffer
	out.Grow((len(content) + perLine) / perLine * 78)
	var line [76]byte
	for part := range slices.Chunk(content, perLine) {
		base64.StdEncoding.Encode(line[:], part)
		out.Write(line[:base64.StdEncoding.EncodedLen(len(part))])
		out.WriteString("\r\n")
	}
	return out.Bytes()
}

// cleanText makes a text one line of valid UTF-8 without control characters.
func cleanText(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
}

// cleanID is a Content-ID without angle brackets; empty for what is none.
func cleanID(s string) string {
	s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "<"), ">")
	if len(s) > 512 {
		return ""
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '<' || s[i] == '>' {
			return ""
		}
	}
	return s
}
