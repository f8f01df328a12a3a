package quotation_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/quotation"
)

// headings lead to a quotation, in the manner of many programs and languages.
var headings = []string{
	"On Mon, 3 Mar 2025 at 14:05, Jane Roe <jane@example.com> wrote:",
	"On Mar 3, 2025, at 2:05 PM, Jane Roe <jane@example.com> wrote:",
	"On 03/03/2025 14:05, Jane Roe wrote:",
	"On Mon, Mar 3, 2025 at 2:05 PM, Jane Roe\n<jane@example.com> wrote:",
	"On Mon, Mar 3,\n2025 at 2:05 PM,\nJane Roe\n<jane@example.com> wrote:",
	"Jane Roe <jane@example.com> wrote on 03.03.2025 14:05:",
	"--- On Mon, 3/3/25, Jane Roe <jane@example.com> wrote:",
	"Am 03.03.2025 um 14:05 schrieb Jane Roe:",
	"Am Mo., 3. März 2025 um 14:05 Uhr schrieb Jane Roe <\njane@example.com>:",
	"Jane Roe <jane@example.com> schrieb am Mo., 3. März 2025, 14:05:",
	"Jane Roe <jane@example.com> hat am 03.03.2025 14:05 CET geschrieben:",
	"Le lun. 3 mars 2025 à 14:05, Jane Roe <jane@example.com> a écrit :",
	"Le 03/03/2025 à 14:05, Jane Roe a écrit\u00a0:",
	"El lun, 3 mar 2025 a las 14:05, Jane Roe (<jane@example.com>) escribió:",
	"Il giorno lun 3 mar 2025 alle ore 14:05 Jane Roe <jane@example.com> ha scritto:",
	"Em seg., 3 de mar. de 2025 às 14:05, Jane Roe <jane@example.com> escreveu:",
	"Op ma 3 mrt 2025 om 14:05 schreef Jane Roe <jane@example.com>:",
	"Jane Roe <jane@example.com> heeft op 3 mrt. 2025 14:05 geschreven:",
	"pon., 3 mar 2025 o 14:05 Jane Roe <jane@example.com> napisał(a):",
	"W dniu 3.03.2025 o 14:05, Jane Roe pisze:",
	"Den mån 3 mars 2025 kl 14:05 skrev Jane Roe <jane@example.com>:",
	"man. 3. mar. 2025 kl. 14:05 skrev Jane Roe <jane@example.com>:",
	"Den 3. mar. 2025 kl. 14.05 skrev Jane Roe <jane@example.com>:",
	"ma 3. maalisk. 2025 klo 14.05 Jane Roe (jane@example.com) kirjoitti:",
	"po 3. 3. 2025 v 14:05 odesílatel Jane Roe <jane@example.com> napsal:",
	"Dne 03. 03. 25 v 14:05 Jane Roe napsal(a):",
	"Jane Roe <jane@example.com> ezt írta (időpont: 2025. márc. 3., H, 14:05):",
	"пн, 3 мар. 2025 г. в 14:05, Jane Roe <jane@example.com>:",
	"03.03.2025, 14:05, \"Jane Roe\" <jane@example.com>:",
	"Понедельник, 3 марта 2025, 14:05 +03:00 от Jane Roe <jane@example.com>:",
	"3 марта 2025 г., в 14:05, Jane Roe <jane@example.com> написал(а):",
	"пн, 3 бер. 2025 р. о 14:05 Jane Roe <jane@example.com> пише:",
	"Jane Roe <jane@example.com>, 3 Mar 2025 Pzt, 14:05 tarihinde şunu yazdı:",
	"Vào Th 2, 3 thg 3, 2025 vào lúc 14:05 Jane Roe <jane@example.com> đã viết:",
	"2025年3月3日(月) 14:05 Jane Roe <jane@example.com>:",
	"2025/03/03 14:05、Jane Roe <jane@example.com>のメッセージ:",
	"Jane Roe <jane@example.com> 于2025年3月3日周一 14:05写道：",
	"在 2025年3月3日，14:05，Jane Roe <jane@example.com> 写道：",
	"2025년 3월 3일 (월) 14:05, Jane Roe <jane@example.com>님이 작성:",
}

func TestHeadings(t *testing.T) {
	t.Parallel()
	for _, heading := range headings {
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			// Above marked lines, with and without a blank line, and alone.
			for _, quoted := range []string{heading + "\n> the old text\n> more of it", heading + "\n\n> the old text", heading + "\n>\n> the old text"} {
				check(t, "the new text\n\n"+quoted, quotation.Parts{Reply: "the new text", Quoted: quoted})
				check(t, quoted, quotation.Parts{Quoted: quoted})
				check(t, quoted+"\n\nan answer", quotation.Parts{Reply: "an answer", Quoted: quoted, Interleaved: true})
			}
			if strings.Contains(heading, "3/3/25") {
				return
			}
			// Above lines without marks, below something new; else it is not known.
			check(t, "the new text\n\n"+heading+"\n\nthe old text\n\nmore of it",
				quotation.Parts{Reply: "the new text", Quoted: heading + "\n\nthe old text\n\nmore of it"})
			check(t, heading+"\n\nthe text", quotation.Parts{Reply: heading + "\n\nthe text"})
		})
	}
}

// headers are the fields of a copied mail in each language: from, sent, to, subject.
var headers = map[string][4]string{
	"English":       {"From", "Sent", "To", "Subject"},
	"German":        {"Von", "Gesendet", "An", "Betreff"},
	"French":        {"De ", "Envoyé ", "À ", "Objet "},
	"Spanish":       {"De", "Enviado el", "Para", "Asunto"},
	"Italian":       {"Da", "Inviato", "A", "Oggetto"},
	"Portuguese":    {"De", "Enviada em", "Para", "Assunto"},
	"Dutch":         {"Van", "Verzonden", "Aan", "Onderwerp"},
	"Polish":        {"Od", "Wysłano", "Do", "Temat"},
	"Swedish":       {"Från", "Skickat", "Till", "Ämne"},
	"Norwegian":     {"Fra", "Sendt", "Til", "Emne"},
	"Finnish":       {"Lähettäjä", "Lähetetty", "Vastaanottaja", "Aihe"},
	"Czech":         {"Od", "Odesláno", "Komu", "Předmět"},
	"Hungarian":     {"Feladó", "Elküldve", "Címzett", "Tárgy"},
	"Russian":       {"От", "Отправлено", "Кому", "Тема"},
	"Ukrainian":     {"Від", "Надіслано", "Кому", "Тема"},
	"Turkish":       {"Kimden", "Gönderildi", "Kime", "Konu"},
	"Vietnamese":    {"Từ", "Đã gửi", "Tới", "Chủ đề"},
	"Japanese":      {"差出人", "送信日時", "宛先", "件名"},
	"Chinese":       {"发件人", "发送时间", "收件人", "主题"},
	"Chinese (old)": {"寄件者", "寄件日期", "收件者", "主旨"},
	"Korean":        {"보낸 사람", "보낸 날짜", "받는 사람", "제목"},
}

func TestHeaderBlocks(t *testing.T) {
	t.Parallel()
	for language, f := range headers {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			block := f[0] + ": Jane Roe <jane@example.com>\n" + f[1] + ": 3.3.2025 14:05\n" + f[2] + ": Help\n" + f[3] + ": Order"
			bold := "*" + strings.ReplaceAll(block, ": ", ":* ")
			bold = strings.ReplaceAll(bold, "\n", "\n*")
			for _, head := range []string{
				block, bold,
				"________________________________\n" + block,
				"-----Original Message-----\n" + block,
				strings.ReplaceAll(block, ":", "："),
				strings.Replace(block, ": Help", ": Help <help@example.com>; Sales <sales@example.com>;\n Returns <returns@example.com>", 1),
			} {
				old := head + "\n\nthe old text\n\n-- \nJane"
				check(t, "the new text\n\n"+old, quotation.Parts{Reply: "the new text", Quoted: old})
				// Without anything new it is a forward as likely.
				check(t, old, quotation.Parts{Reply: old})
				check(t, head+"\n\n> the old text\n\nan answer", quotation.Parts{Reply: "an answer", Quoted: head + "\n\n> the old text", Interleaved: true})
			}
		})
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	const old = "On 03/03/2025 14:05, Jane Roe wrote:"
	for name, c := range map[string]struct {
		text string
		want quotation.Parts
	}{
		"empty":       {"", quotation.Parts{}},
		"blank":       {" \r\n\t\n\u200b\n", quotation.Parts{}},
		"plain":       {"\nHello,\n\n  two   words\n\n", quotation.Parts{Reply: "Hello,\n\n  two   words"}},
		"line ends":   {"a\r\nb\rc\r\n\r\nd\r\n> e\r\n", quotation.Parts{Reply: "a\nb\nc\n\nd", Quoted: "> e"}},
		"quote alone": {"> a\n>> b\n", quotation.Parts{Quoted: "> a\n>> b"}},
		"interleaved": {
			old + "\n> one?\n\nyes\n\n> two?\n> three?\nno\n\n> four?\n",
			quotation.Parts{Reply: "yes\n\nno", Quoted: old + "\n> one?\n\n> two?\n> three?\n\n> four?", Interleaved: true},
		},
		"short answers glued to the question": {
			"> Shall we deliver on the third of March, in the morning at about nine o'clock?\nyes\n> and the bill\nno\n",
			quotation.Parts{Reply: "yes\n\nno", Quoted: "> Shall we deliver on the third of March, in the morning at about nine o'clock?\n\n> and the bill", Interleaved: true},
		},
		"broken quoted line": {
			"> the parcel was left at the door of the neighbour who lives across the\nstreet and\n> was not at home\n\nwhich one\n",
			quotation.Parts{Reply: "which one", Quoted: "> the parcel was left at the door of the neighbour who lives across the\nstreet and\n> was not at home", Interleaved: true},
		},
		"elision": {
			old + "\n[...]\n> a\n[snip]\n\nb",
			quotation.Parts{Reply: "b", Quoted: old + "\n[...]\n> a\n[snip]", Interleaved: true},
		},
		"initials": {"yes\n\nJR> is it\nJR> here?\n", quotation.Parts{Reply: "yes", Quoted: "JR> is it\nJR> here?"}},
		"bars":     {"Jane Roe wrote:\n| is it\n|\n| here?\n\nyes", quotation.Parts{Reply: "yes", Quoted: "Jane Roe wrote:\n| is it\n|\n| here?", Interleaved: true}},
		"a table is no quotation": {
			"| item | price |\n| cup  | 3     |", quotation.Parts{Reply: "| item | price |\n| cup  | 3     |"},
		},
		"comparison in running text": {"the value must be\n>5 or it fails", quotation.Parts{Reply: "the value must be\n>5 or it fails"}},
		"mailbox escape":             {"Hello\n\n>From here on it works\n", quotation.Parts{Reply: "Hello\n\n>From here on it works"}},
		"a journey is no header block": {
			"please change my booking\n\nFrom: Berlin\nTo: Prague\nDate: 3.3.2025\n\nthank you",
			quotation.Parts{Reply: "please change my booking\n\nFrom: Berlin\nTo: Prague\nDate: 3.3.2025\n\nthank you"},
		},
		"speaking of a letter": {
			"As agreed.\n\nOn 3 March 2025 at 14:05 I wrote:\n\nPlease cancel.",
			quotation.Parts{Reply: "As agreed.\n\nOn 3 March 2025 at 14:05 I wrote:\n\nPlease cancel."},
		},
		"prose that ends in a colon": {
			"On Monday your colleague wrote:\nit is free of charge",
			quotation.Parts{Reply: "On Monday your colleague wrote:\nit is free of charge"},
		},
		"unmarked quotation with marks below keeps what is between": {
			"Hi\n\nOn Mon, 3 Mar 2025 at 14:05, Jane Roe <jane@example.com> wrote:\n\nmaybe an answer\n\n> one?\n",
			quotation.Parts{Reply: "Hi\n\nmaybe an answer", Quoted: "On Mon, 3 Mar 2025 at 14:05, Jane Roe <jane@example.com> wrote:\n\n> one?", Interleaved: true},
		},
		"forward": {
			"see below\n\n---------- Forwarded message ---------\nFrom: Jane <jane@example.com>\nDate: 3.3.2025\nSubject: x\nTo: me@example.com\n\n> a\n\nb\n-- \nJane",
			quotation.Parts{Reply: "see below\n\n---------- Forwarded message ---------\nFrom: Jane <jane@example.com>\nDate: 3.3.2025\nSubject: x\nTo: me@example.com\n\n> a\n\nb\n-- \nJane"},
		},
		"forward with marks": {
			"Begin forwarded message:\n\n> From: Jane <jane@example.com>\n> Subject: x\n>\n> a",
			quotation.Parts{Reply: "Begin forwarded message:\n\n> From: Jane <jane@example.com>\n> Subject: x\n>\n> a"},
		},
		"forward in German": {
			"zur Info\n--\nMax\n\n-------- Weitergeleitete Nachricht --------\nBetreff: x",
			quotation.Parts{Reply: "zur Info\n\n-------- Weitergeleitete Nachricht --------\nBetreff: x", Signature: "--\nMax"},
		},
		"a quoted forward stays quoted": {
			"thanks\n> ---------- Forwarded message ---------\n> a", quotation.Parts{Reply: "thanks", Quoted: "> ---------- Forwarded message ---------\n> a"},
		},
		"help desk": {
			"it works\n\n##- Please type your reply above this line -##\nYour request 35 has been updated.",
			quotation.Parts{Reply: "it works", Quoted: "##- Please type your reply above this line -##\nYour request 35 has been updated."},
		},
		"help desk, answered below": {
			"--- Bitte antworten Sie oberhalb dieser Zeile ---\n\nes geht",
			quotation.Parts{Reply: "es geht", Quoted: "--- Bitte antworten Sie oberhalb dieser Zeile ---", Interleaved: true},
		},
		"delimiter":      {"Hi\n-- \nJane\nRoe Ltd\n\n> a\n\nyes\n", quotation.Parts{Reply: "Hi\n\nyes", Quoted: "> a", Signature: "-- \nJane\nRoe Ltd", Interleaved: true}},
		"bare delimiter": {"Hi\n--\nJane", quotation.Parts{Reply: "Hi", Signature: "--\nJane"}},
		"separators":     {"one\n--\ntwo\n--\nthree", quotation.Parts{Reply: "one\n--\ntwo\n--\nthree"}},
		"only signed":    {"> a\n\n-- \nJane", quotation.Parts{Quoted: "> a", Signature: "-- \nJane"}},
		"long text below a delimiter": {
			"a\n-- \n" + strings.Repeat("line\n", 40), quotation.Parts{Reply: "a\n-- \n" + strings.TrimSpace(strings.Repeat("line\n", 40))},
		},
		"close with data": {
			"it broke\n\nKind regards,\nJane Roe\nRoe Ltd\n+44 20 7946 0000",
			quotation.Parts{Reply: "it broke", Signature: "Kind regards,\nJane Roe\nRoe Ltd\n+44 20 7946 0000"},
		},
		"close in German": {
			"es ist kaputt\n\nMit freundlichen Grüßen\n\nMax Muster\nTel. 030 1234567",
			quotation.Parts{Reply: "es ist kaputt", Signature: "Mit freundlichen Grüßen\n\nMax Muster\nTel. 030 1234567"},
		},
		"close without data": {"it broke\n\nThanks,\nJane", quotation.Parts{Reply: "it broke\n\nThanks,\nJane"}},
		"close with a postscript": {
			"it broke\n\nThanks,\nJane\nPS: call +44 20 7946 0000", quotation.Parts{Reply: "it broke\n\nThanks,\nJane\nPS: call +44 20 7946 0000"},
		},
		"data as the answer": {
			"here is what you asked for:\n\nJane Roe\n+44 20 7946 0000\njane@example.com",
			quotation.Parts{Reply: "here is what you asked for:\n\nJane Roe\n+44 20 7946 0000\njane@example.com"},
		},
		"data alone": {"Jane Roe\n+44 20 7946 0000\njane@example.com", quotation.Parts{Reply: "Jane Roe\n+44 20 7946 0000\njane@example.com"}},
		"block of data": {
			"It broke again.\n\nJane Roe\nBuyer\n+44 20 7946 0000\njane@example.com",
			quotation.Parts{Reply: "It broke again.", Signature: "Jane Roe\nBuyer\n+44 20 7946 0000\njane@example.com"},
		},
		"disclaimer": {
			"It broke.\n\nThis e-mail is confidential and intended for the named recipient only.\nIf you received it in error, delete it and notify the sender at once.",
			quotation.Parts{Reply: "It broke.", Signature: "This e-mail is confidential and intended for the named recipient only.\nIf you received it in error, delete it and notify the sender at once."},
		},
		"speaking of secrets": {
			"It broke.\n\nThis e-mail is confidential, please tell nobody.", quotation.Parts{Reply: "It broke.\n\nThis e-mail is confidential, please tell nobody."},
		},
		"speaking of errors": {
			"It broke.\n\nThis message tells that the order was deleted in error, and the attachment does not open. Please delete it on your side too, and send another.",
			quotation.Parts{Reply: "It broke.\n\nThis message tells that the order was deleted in error, and the attachment does not open. Please delete it on your side too, and send another."},
		},
		"wants no more mails": {
			"Hello\n------------------------------------------\nunsubscribe me",
			quotation.Parts{Reply: "Hello\n------------------------------------------\nunsubscribe me"},
		},
		"openpgp": {
			"yes\n-----BEGIN PGP SIGNATURE-----\n\nabc=\n-----END PGP SIGNATURE-----",
			quotation.Parts{Reply: "yes", Signature: "-----BEGIN PGP SIGNATURE-----\n\nabc=\n-----END PGP SIGNATURE-----"},
		},
		"footer of a list": {
			"yes\n_______________________________________________\nHelp mailing list\nhelp@example.com\nhttps://example.com/mailman/listinfo/help",
			quotation.Parts{Reply: "yes", Signature: "_______________________________________________\nHelp mailing list\nhelp@example.com\nhttps://example.com/mailman/listinfo/help"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, c.text, c.want)
		})
	}
}

func TestDeviceNotes(t *testing.T) {
	t.Parallel()
	for _, note := range []string{
		"Sent from my iPhone", "Sent from my iPad.", "Sent from my Samsung Galaxy smartphone.", "Sent from Outlook for Android", "Get Outlook for iOS", "Get Outlook for iOS<https://aka.ms/abc>",
		"Sent from Mail for Windows", "Sent from Yahoo Mail on Android", "Sent with Proton Mail secure email.", "Sent via BlackBerry", "via mobile",
		"Von meinem iPhone gesendet", "Gesendet von Outlook für iOS", "Gesendet mit der GMX Mail App", "Diese Nachricht wurde von meinem Android-Gerät mit GMX Mail gesendet.",
		"Envoyé de mon iPhone", "Envoyé depuis mon téléphone Orange", "Télécharger Outlook pour iOS", "Enviado desde mi iPhone", "Obtener Outlook para Android",
		"Inviato da iPhone", "Inviato da Outlook per Android", "Enviado do meu iPhone", "Verstuurd vanaf mijn iPhone", "Verzonden vanaf mijn Samsung-telefoon",
		"Wysłane z iPhone'a", "Wysłano z telefonu Samsung", "Skickat från min iPhone", "Sendt fra min iPhone", "Hent Outlook til iOS", "Lähetetty iPhonesta",
		"Odesláno z iPhonu", "iPhone-omról küldve", "Отправлено с iPhone", "Отправлено из мобильной Почты Mail.ru", "Надіслано з iPhone", "iPhone'umdan gönderildi",
		"Được gửi từ iPhone của tôi", "iPhoneから送信", "发自我的 iPhone", "從我的 iPhone 傳送", "나의 iPhone에서 보냄",
	} {
		t.Run(note, func(t *testing.T) {
			t.Parallel()
			check(t, "it broke\n\n"+note+"\n\n> a", quotation.Parts{Reply: "it broke", Quoted: "> a", Signature: note})
		})
	}
	for _, text := range []string{
		"I sent it from my iPhone.", "Was it sent from my phone?", "Sent from Berlin to Prague last week", "Von meinem Handy aus geht es nicht", "内存不足，我已用邮箱发送",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			check(t, "it broke\n\n"+text, quotation.Parts{Reply: "it broke\n\n" + text})
		})
	}
	check(t, "it broke\n\nJane Roe\nvia mobile", quotation.Parts{Reply: "it broke", Signature: "Jane Roe\nvia mobile"})
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"bytes": "a\n" + strings.Repeat("> ", quotation.MaxText/2+1),
		"lines": "a\n" + strings.Repeat("> b\n", quotation.MaxLines+1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, quotation.Parts{Reply: text}, quotation.Split(text))
		})
	}
}

func check(t *testing.T, text string, want quotation.Parts) {
	t.Helper()
	got := quotation.Split(text)
	require.Equal(t, want, got)
	requireCovered(t, text, got)
}
