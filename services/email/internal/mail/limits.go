package mail

// Limits bounds what Parse takes on. A field that is 0 takes its default.
type Limits struct {
	// MaxBytes of the mail are read; the rest is left out and DefectOversize
	// says so. Defaults to DefaultMaxBytes.
	MaxBytes int
	// MaxHeaderBytes are kept of one header block; fields that do not fit are
	// left out with DefectHeaderCut. Defaults to DefaultMaxHeaderBytes.
	MaxHeaderBytes int
	// MaxDepth is how deep multiparts may be nested; a deeper one is kept
	// unopened as an attachment with DefectTooDeep. Defaults to DefaultMaxDepth.
	MaxDepth int
	// MaxParts of a mail are read, containers among them; the rest is left out
	// with DefectTooManyParts. Defaults to DefaultMaxParts.
	MaxParts int
}

const (
	// DefaultMaxBytes is 64 MiB, more than the large providers take.
	DefaultMaxBytes = 64 << 20
	// DefaultMaxHeaderBytes is 256 KiB.
	DefaultMaxHeaderBytes = 256 << 10
	// DefaultMaxDepth is far above what mail programs nest, about six.
	DefaultMaxDepth = 32
	// DefaultMaxParts is the default of Limits.MaxParts.
	DefaultMaxParts = 1000

	// MaxReferences is how many ids are kept of References: the first, which is
	// the thread's root, and the last 99.
	MaxReferences = 100
	// MaxIDBytes is the longest message id; longer ones are left out. It is the
	// longest line of RFC 5322 section 2.1.1.
	MaxIDBytes = 998
	// MaxAddresses are kept of the fields of one name.
	MaxAddresses = 1000
	// MaxAddressBytes is the longest address: 64 of the local part, the at sign
	// and 255 of the domain (RFC 5321 section 4.5.3.1).
	MaxAddressBytes = 320
	// MaxDefects are listed; Mail.DefectsOmitted counts the rest.
	MaxDefects = 64
	// MaxReportRecipients are read of one report.
	MaxReportRecipients = 200

	// maxFieldBytes of one header field are read.
	maxFieldBytes = 128 << 10
	// maxFields of one header block are kept.
	maxFields = 2000
	// maxFieldName is the longest name in bytes that passes for one.
	maxFieldName = 126
	// maxParamBytes of Content-Type and Content-Disposition are read.
	maxParamBytes = 8 << 10
	// maxParams of such a field are read.
	maxParams = 64
	// maxFileName bytes of a file name are kept, its extension among them.
	maxFileName = 255
	// maxMediaType bytes is RFC 6838's bound of type and subtype, rounded.
	maxMediaType = 128
	// maxDefectText bytes are kept of what a defect says.
	maxDefectText = 200
	// maxHeaderLookups bounds the values that one lookup by name gives.
	maxHeaderLookups = 1000
)

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		value *int
		other int
	}{
		{&l.MaxBytes, DefaultMaxBytes},
		{&l.MaxHeaderBytes, DefaultMaxHeaderBytes},
		{&l.MaxDepth, DefaultMaxDepth},
		{&l.MaxParts, DefaultMaxParts},
	} {
		if *f.value <= 0 {
			*f.value = f.other
		}
	}
	return l
}
