package quotation

// deviceNotes are notes of mail programs that are known as a whole.
var deviceNotes = set("via mobile|sent via mobile|via iphone|via my iphone|sent on the go|sent from mobile|sent from phone|envoyé de mon mobile|enviado desde el móvil|vom handy gesendet|mobil gesendet|von unterwegs gesendet|sent on the move|sent while mobile")

// devicePrefixes begin such notes; the line must name a device or program too.
var devicePrefixes = []string{
	"sent from ", "sent via ", "sent with ", "sent using ", "get outlook for ", "get bluemail for ", "download outlook", "composed with ", "typed on my ", "this email was sent from my ", "this message was sent from my ", "message sent from my ",
	"gesendet mit ", "gesendet von ", "gesendet über ", "gesendet mit der ", "verschickt von ", "diese nachricht wurde von mein", "diese e-mail wurde von mein", "holen sie sich outlook", "outlook für ", "beziehen sie outlook",
	"envoyé de ", "envoyé depuis ", "envoyé à partir ", "envoyé avec ", "envoyé via ", "envoyée depuis ", "télécharger outlook", "téléchargez outlook", "obtenez outlook", "obtenir outlook", "provenance ",
	"enviado desde ", "enviado con ", "enviado mediante ", "obtener outlook", "descargar outlook", "obtén outlook",
	"enviado do ", "enviado de ", "enviado a partir ", "enviado via ", "enviado pelo ", "enviado com ", "enviada do ", "obter o outlook", "obter outlook", "baixe o outlook",
	"inviato da ", "inviato dal ", "inviata da ", "inviato con ", "inviato tramite ", "scarica outlook", "ottieni outlook",
	"verzonden vanaf ", "verzonden van ", "verzonden met ", "verzonden via ", "verstuurd vanaf ", "verstuurd met ", "verstuurd van ", "outlook voor ", "download outlook voor",
	"wysłano z ", "wysłane z ", "wysłano za ", "wysłana z ", "pobierz program outlook", "pobierz aplikację outlook", "uzyskaj program outlook", "uzyskaj aplikację outlook", "pobierz outlook",
	"skickat från ", "skickat med ", "skickades från ", "hämta outlook",
	"sendt fra ", "sendt med ", "sendt frå ", "skaff deg outlook", "få outlook for", "få outlook til", "hent outlook", "last ned outlook",
	"lähetetty ", "hanki outlook",
	"odesláno z ", "odesláno ze ", "odesláno pomocí ", "posláno z ", "získat outlook", "získejte outlook", "stáhnout outlook",
	"elküldve ", "küldve ", "feladva ", "az outlook ", "outlook beszerzése",
	"отправлено с ", "отправлено из ", "отправлено со ", "отправлено через ", "послано с ", "скачать outlook", "получить outlook", "получите outlook",
	"надіслано з ", "надіслано із ", "відправлено з ", "відправлено із ", "надіслано через ", "отримати outlook", "отримайте outlook", "завантажити outlook",
	"được gửi từ ", "đã gửi từ ", "gửi từ ", "được gửi bằng ", "tải outlook", "tải xuống outlook",
	"outlook for ", "获取 outlook", "取得 outlook", "获取outlook", "从 outlook", "发自", "發自", "來自我的", "来自我的", "寄自",
}

// deviceFrames begin and end such notes where the verb comes last.
var deviceFrames = [][2]string{
	{"von ", " gesendet"}, {"mit ", " gesendet"}, {"vom ", " gesendet"}, {"outlook ", "beziehen"},
	{"", "rol küldve"}, {"", "ról küldve"}, {"", "ről küldve"}, {"", "ból küldve"}, {"", "ből küldve"}, {"", "val küldve"}, {"", "vel küldve"},
	{"", "dan gönderildi"}, {"", "den gönderildi"}, {"", "tan gönderildi"}, {"", "ten gönderildi"}, {"", "outlook'u edinin"}, {"", "outlook’u edinin"},
	{"", "から送信"}, {"", "から送信されました"}, {"", "より送信"}, {"outlook", "を入手"}, {"outlook", "を入手する"},
	{"", "에서 보냄"}, {"", "에서 보냈습니다"}, {"", "에서 보낸 메일입니다"}, {"", "outlook 다운로드"},
	{"从", "发送"}, {"從", "傳送"}, {"由", "发送"}, {"透過", "傳送"},
}

// deviceWords are the devices and programs that such notes name.
var deviceWords = []string{
	"iphon", "ipad", "ipod", "apple", "android", "samsung", "galaxy", "blackberry", "huawei", "xiaomi", "redmi", "oneplus", "oppo", "vivo", "nokia", "motorola", "pixel", "htc", "sony", "xperia", "windows", "surface", "nexus", "sailfish", "treo", "honor",
	"outlook", "yahoo", "gmail", "mail.ru", "mail app", "mail-app", "mail for ", "aol mail", "thunderbird", "proton", "hotmail", "aol", "gmx", "web.de", "t-online", "freenet", "sparrow", "spark", "airmail", "k-9", "fairemail", "tutanota", "tuta", "mailbird", "em client", "zimbra", "yandex", "яндекс", "bouygues", "orange", "libero", "virgilio", "seznam", "wirtualn", "onet", "interia", "superhuman", "front", "missive", "polymail", "newton", "canary", "boxer", "nine", "hey.com", "fastmail", "shortwave", "mobile", "mobil", "móvil", "celular", "telefon", "téléphone", "smartphone", "smarttelefon", "phone", "handy", "tablet", "telefoon", "телефон", "смартфон", "điện thoại", "komórk", "puhelim", "okostelefon", "携帯", "手机", "手機", "휴대폰", "스마트폰", "邮箱大师", "qq邮箱",
}

// closings are complimentary closes and thanks before a name.
var closings = set(
	"regards|best regards|kind regards|kindest regards|warm regards|warmest regards|with kind regards|with best regards|many regards|rgds|brgds|best|all the best|best wishes|with best wishes|cheers|thanks|many thanks|thank you|thanks a lot|thanks in advance|thank you in advance|thanks and regards|thanks & regards|thank you and best regards|sincerely|sincerely yours|yours sincerely|yours faithfully|yours truly|yours|respectfully|cordially|br|kr|take care|thx|ta",
	"mit freundlichen grüßen|mit freundlichem gruß|mit freundlichen grüssen|mit freundlichem gruss|mit besten grüßen|mit besten grüssen|mit herzlichen grüßen|freundliche grüße|freundliche grüsse|freundlicher gruß|viele grüße|viele grüsse|liebe grüße|liebe grüsse|beste grüße|beste grüsse|beste gruesse|mit freundlichen gruessen|herzliche grüße|schöne grüße|grüße|gruß|gruss|hochachtungsvoll|mfg|lg|vg|danke|vielen dank|besten dank|danke und grüße|vielen dank und freundliche grüße",
	"cordialement|bien cordialement|très cordialement|salutations|meilleures salutations|sincères salutations|salutations distinguées|bien à vous|amicalement|cdlt|merci|merci d'avance|merci beaucoup|sincèrement|respectueusement|belle journée|bonne journée",
	"saludos|un saludo|saludos cordiales|un cordial saludo|cordiales saludos|cordialmente|atentamente|muy atentamente|gracias|muchas gracias|gracias de antemano|reciba un cordial saludo",
	"cordiali saluti|distinti saluti|saluti|un saluto|un cordiale saluto|cari saluti|grazie|grazie mille|in fede",
	"atenciosamente|cumprimentos|com os melhores cumprimentos|melhores cumprimentos|obrigado|obrigada|muito obrigado|abraços|saudações|att",
	"met vriendelijke groet|met vriendelijke groeten|met hartelijke groet|vriendelijke groet|vriendelijke groeten|groeten|groet|groetjes|hoogachtend|mvg|bedankt|dank u|alvast bedankt|hartelijke groeten",
	"pozdrawiam|pozdrawiam serdecznie|serdecznie pozdrawiam|z poważaniem|z wyrazami szacunku|dziękuję|z góry dziękuję|łączę pozdrowienia",
	"med vänliga hälsningar|med vänlig hälsning|vänliga hälsningar|vänlig hälsning|hälsningar|bästa hälsningar|mvh|tack|tack på förhand",
	"med vennlig hilsen|vennlig hilsen|med venlig hilsen|venlig hilsen|med venlige hilsner|hilsen|beste hilsen|de bedste hilsner|bedste hilsner|vh|takk|tak|på forhånd takk",
	"ystävällisin terveisin|terveisin|parhain terveisin|kiitos|kiitos etukäteen|yst. terv",
	"s pozdravem|s přátelským pozdravem|s úctou|děkuji|děkuji předem|hezký den|zdraví",
	"üdvözlettel|tisztelettel|köszönettel|üdv|szívélyes üdvözlettel|köszönöm",
	"с уважением|с наилучшими пожеланиями|всего доброго|всего наилучшего|спасибо|заранее спасибо|благодарю|с благодарностью",
	"з повагою|з найкращими побажаннями|всього найкращого|дякую|дякую заздалегідь|щиро дякую",
	"saygılarımla|saygılar|saygılarımızla|iyi çalışmalar|iyi günler|teşekkürler|teşekkür ederim",
	"trân trọng|thân ái|thân mến|cảm ơn|xin cảm ơn|kính thư",
	"よろしくお願いします|よろしくお願いいたします|宜しくお願い致します|敬具|以上|以上、よろしくお願いいたします|ありがとうございます",
	"此致|敬礼|祝好|谢谢|謝謝|顺祝商祺|敬上|此致敬礼",
	"감사합니다|고맙습니다|드림|안녕히 계세요",
)

// footerSigns are what the footers of lists and free mail services speak of.
var footerSigns = []string{
	"mailing list", "mailing-list", "unsubscribe", "listinfo", "mailman", "list maintainer", "list archive", "sponsored by", "do you yahoo", "join.msn", "msn.com", "hotmail.com", "yahoo! groups", "yahoogroups", "google groups", "mailingliste", "liste de diffusion", "lista de correo", "lista di discussione", "désabonne", "abmelden",
}

// disclaimerOpenings begin disclaimers.
var disclaimerOpenings = []string{
	"this e-mail", "this email", "this message", "this communication", "this transmission", "the information", "the contents of this", "the content of this", "information in this", "confidential", "notice", "disclaimer", "legal notice", "important notice", "privileged", "if you are not the intended", "if you have received this", "please note that this e", "any views", "all e-mails",
	"diese e-mail", "diese email", "diese nachricht", "diese mail", "der inhalt dieser", "die informationen in dieser", "die in dieser", "vertraulich", "hinweis:", "wichtiger hinweis", "haftungsausschluss",
	"ce message", "ce courriel", "ce mail", "cet e-mail", "cet email", "le présent", "les informations contenues", "avis de confidentialité", "confidentialité",
	"este mensaje", "este correo", "este e-mail", "la información contenida", "aviso legal", "aviso de confidencialidad", "en cumplimiento",
	"questo messaggio", "questa e-mail", "la presente", "il presente messaggio", "le informazioni contenute", "avviso di riservatezza", "ai sensi del",
	"esta mensagem", "este email", "a informação contida", "aviso de confidencialidade", "as informações contidas",
	"dit bericht", "deze e-mail", "dit e-mailbericht", "de informati", "de inhoud van dit", "de inhoud van deze",
	"ta wiadomość", "niniejsza wiadomość", "treść tej wiadomości", "informacje zawarte", "detta meddelande", "detta e-post", "denne e-post", "denne meddelelse", "denne e-mail", "tämä viesti", "tämä sähköposti", "tato zpráva", "tento e-mail", "ez az üzenet", "ez az e-mail", "данное сообщение", "настоящее сообщение", "это сообщение", "це повідомлення", "bu e-posta", "bu mesaj", "このメール", "このメッセージ", "本邮件", "本電子郵件", "이 메일", "본 메일",
}

// disclaimerTerms are the stems that disclaimers are full of. A line may count
// for several.
var disclaimerTerms = []string{
	"confidenti", "privileged", "intended", "recipient", "addressee", "unauthori", "disclos", "attachment", "in error", "delete", "liab", "virus", "legally", "copying", "distribut", "prohibited", "notify the sender", "disseminat",
	"vertraulich", "rechtlich", "empfänger", "adressat", "irrtümlich", "anhäng", "vernichten", "löschen", "unbefugt", "weitergabe", "haftung", "absender", "geschützt",
	"destinataire", "pièces jointes", "erreur", "divulg", "strictement", "détrui", "expéditeur", "interdit",
	"confidenc", "privilegiad", "prohibid", "elimin", "por error", "adjunt", "divulga",
	"riservat", "destinatari", "vietat", "per errore", "allegat", "distrugg",
	"destinatário", "anexo", "proibid", "por engano", "sigilo",
	"vertrouwelijk", "geadresseerde", "bestemd", "ontvanger", "bijlage", "verwijder", "afzender",
	"poufn", "adresat", "załącznik", "konfidentiell", "mottagare", "bilag", "fortrolig", "luottamuksell", "vastaanottaj", "důvěrn", "příjemc", "bizalmas", "címzett", "конфиденциальн", "получател", "адресат", "конфіденційн", "одержувач", "gizli", "alıcı", "機密", "受信者", "機密情報", "机密", "收件人", "기밀", "수신",
}

// disclaimerCores are the terms of which a disclaimer has one at least.
var disclaimerCores = []string{
	"confidenti", "privileged", "intended recipient", "intended for", "intended only", "intended solely", "addressee", "vertraulich", "adressat", "destinata", "confidenc", "riservat", "vertrouwelijk", "geadresseerde", "poufn", "adresat",
	"konfidentiell", "fortrolig", "luottamuksell", "důvěrn", "bizalmas", "конфиденциальн", "конфіденційн", "gizli", "機密", "机密", "기밀",
}

// announcements are in a line below which contact data is the answer itself.
var announcements = []string{
	"below", "following", "as follows", "address is", "details", "contact", "reach me", "call me", "phone", "number", "deliver to", "ship to", "send it to", "here is", "here are",
	"unten", "folgend", "daten", "anschrift", "nummer", "erreich", "suivant", "ci-dessous", "coordonn", "siguiente", "dirección", "datos", "seguente", "indirizzo", "endereço", "dados", "seguinte", "adre", "gegevens", "dane", "uppgifter", "opplysninger", "oplysninger", "osoite", "tiedot", "údaje", "cím", "adat", "адрес", "данные", "дані", "bilgi", "địa chỉ", "住所", "連絡先", "地址", "联系", "聯絡", "주소", "연락처",
}
