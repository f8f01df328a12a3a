package mail

import "strconv"

// Defect is something wrong with a mail that was read nevertheless.
type Defect struct {
	Code DefectCode
	// Text says more, with at most 200 bytes of what the mail said.
	Text string
}

// DefectCode names a kind of defect; metrics count by it.
type DefectCode string

// What may be wrong with a mail.
const (
	// DefectEmpty: no bytes, or white space only.
	DefectEmpty DefectCode = "empty"
	// DefectOversize: longer than Limits.MaxBytes; the rest was not read.
	DefectOversize DefectCode = "oversize"
	// DefectMbox: a "From " line of an mbox file stood before the header.
	DefectMbox DefectCode = "mbox_line"
	// DefectBOM: a byte order mark stood before the header.
	DefectBOM DefectCode = "byte_order_mark"
	// DefectBareCR: all lines end in CR alone.
	DefectBareCR DefectCode = "bare_cr"
	// DefectNUL: NUL bytes in a header or a text, left out.
	DefectNUL DefectCode = "nul"
	// DefectNoHeader: no header; all is body.
	DefectNoHeader DefectCode = "no_header"
	// DefectHeaderLine: a line in a header that is neither field nor continuation.
	DefectHeaderLine DefectCode = "header_line"
	// DefectHeaderEnd: the empty line between header and body is missing.
	DefectHeaderEnd DefectCode = "header_end"
	// DefectHeaderCut: a field or the header is too long; the rest was left out.
	DefectHeaderCut DefectCode = "header_cut"
	// DefectDuplicate: a field that may occur once occurs more often; the first counts.
	DefectDuplicate DefectCode = "duplicate_field"
	// DefectMessageID: a message id that cannot be read, or a malformed one that was.
	DefectMessageID DefectCode = "message_id"
	// DefectReferences: more than MaxReferences ids, or unreadable ones.
	DefectReferences DefectCode = "references"
	// DefectAddress: an entry of an address field without an address.
	DefectAddress DefectCode = "address"
	// DefectAddresses: more than MaxAddresses.
	DefectAddresses DefectCode = "too_many_addresses"
	// DefectDate: a Date that cannot be read.
	DefectDate DefectCode = "date"
	// DefectContentType: a Content-Type that cannot be read, or was mended.
	DefectContentType DefectCode = "content_type"
	// DefectBoundary: a multipart without boundary, or with one that never
	// occurs; it was guessed, or the whole taken for text.
	DefectBoundary DefectCode = "boundary"
	// DefectUnclosed: a multipart that does not end.
	DefectUnclosed DefectCode = "unclosed_multipart"
	// DefectEpilogue: text behind the end of a multipart, left out.
	DefectEpilogue DefectCode = "epilogue"
	// DefectTooDeep: nested deeper than Limits.MaxDepth; kept unopened.
	DefectTooDeep DefectCode = "too_deep"
	// DefectTooManyParts: more than Limits.MaxParts; the rest was left out.
	DefectTooManyParts DefectCode = "too_many_parts"
	// DefectEncoding: a Content-Transfer-Encoding that is unknown, or that the content is not in.
	DefectEncoding DefectCode = "transfer_encoding"
	// DefectBase64: base64 with other bytes in it, left out.
	DefectBase64 DefectCode = "base64"
	// DefectQuotedPrintable: equals signs without two digits, kept as they are.
	DefectQuotedPrintable DefectCode = "quoted_printable"
	// DefectCharsetUnknown: a charset that nobody here knows; guessed.
	DefectCharsetUnknown DefectCode = "charset_unknown"
	// DefectCharsetWrong: text that is not in the charset it says; guessed.
	DefectCharsetWrong DefectCode = "charset_wrong"
	// DefectCharsetMissing: text beyond ASCII that says no charset; guessed.
	DefectCharsetMissing DefectCode = "charset_missing"
	// DefectNoText: there is a text or HTML part with content, but no text came of it.
	DefectNoText DefectCode = "no_text"
	// DefectReport: a report that cannot be read, or not whole.
	DefectReport DefectCode = "report"
)

// defects collects; it keeps one of a kind and text, and a bounded number. Nil
// takes them and forgets them.
type defects struct {
	list    []Defect
	seen    map[Defect]struct{}
	omitted int
}

func (d *defects) add(code DefectCode, text string) {
	if d == nil {
		return
	}
	defect := Defect{Code: code, Text: cut(cleanLine(text), maxDefectText)}
	if _, ok := d.seen[defect]; ok {
		return
	}
	if len(d.list) >= MaxDefects {
		d.omitted++
		return
	}
	if d.seen == nil {
		d.seen = make(map[Defect]struct{})
	}
	d.seen[defect] = struct{}{}
	d.list = append(d.list, defect)
}

func (d *defects) addCount(code DefectCode, n int, what string) {
	d.add(code, strconv.Itoa(n)+" "+what)
}
