//! Lists of words: English, Italian, German, French, Spanish, Portuguese. In lower case, without marks, and without spaces where
//! several words make one name: `words` brings names into that form. `names` says how the lists are used.

use crate::subject::Subject;

/// How much a name tells by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: hardly anything else is called so.
    Nothing,
    /// Values that look like it: other things are called so, too.
    Values,
    /// To be said of people, by the table or by a word beside it.
    People,
}

/// Names of a subject.
pub struct Names {
    pub subject: Subject,
    pub needs: Needs,
    pub phrases: &'static str,
}

const fn names(subject: Subject, needs: Needs, phrases: &'static str) -> Names {
    Names { subject, needs, phrases }
}

/// All names. The first list that has a phrase counts.
pub const NAMES: [Names; 23] = [
    names(
        Subject::Email,
        Needs::Nothing,
        "email emails emailaddress emailaddresses emailaddr mail mailaddress mailaddr useremail eaddress
        postaelettronica indirizzoemail indirizzomail indirizzipostaelettronica emailadresse mailadresse
        courriel courriels adressemail adresseemail adresseelectronique correo correos correoelectronico direccionemail
        correioeletronico correioelectronico enderecoemail",
    ),
    names(
        Subject::Phone,
        Needs::Nothing,
        "phone phones phoneno phonenr phonenum phonenumber phonenumbers telephone telephones telephoneno telephonenumber telno telnr
        telnumber mobilephone mobileno mobilenumber mobilenr mobilephonenumber cellphone cellphonenumber cellnumber homephone workphone
        daytimephone eveningphone faxnumber faxno faxnr whatsapp whatsappnumber msisdn phonee164
        telefono telefoni numerotelefono numtelefono telefonofisso telefonocellulare cellulare numerocellulare numcellulare recapitotelefonico
        telefon telefonnummer telefonnr telefonnum telnummer handy handynummer handynr mobilnummer mobilfunknummer mobiltelefon rufnummer
        festnetz festnetznummer faxnummer telefonprivat
        numerotelephone numtelephone notelephone telephonefixe telephoneportable telportable numeroportable telmobile telfixe
        telefonomovil telefonocelular numerocelular numeromovil telefonofijo telefonos celular
        telefone telefones telefonefixo telemovel numerotelefone numtelefone telefonecelular fonecelular",
    ),
    names(Subject::Phone, Needs::Values, "tel tels mobile mobiles cell gsm fax mobil portable movil fono fone phone1 fixe"),
    names(
        Subject::Iban,
        Needs::Nothing,
        "iban ibans ibannumber ibannummer ibannr ibancode codiceiban numeroiban codeiban codigoiban bankiban",
    ),
    names(
        Subject::Card,
        Needs::Nothing,
        "creditcard creditcardno creditcardnumber creditcardnum ccnumber ccnum ccno debitcardnumber paymentcardnumber
        cartacredito numerocarta numerocartacredito kreditkarte kreditkartennummer kreditkartennr
        numerocarte cartebancaire numerocartebancaire tarjetacredito numerotarjeta numtarjeta cartaocredito numerocartao
        cvv cvv2 cvc",
    ),
    names(Subject::Card, Needs::Values, "pan cardnumber cardno cardnum kartennummer"),
    names(
        Subject::Account,
        Needs::Nothing,
        "bankaccount bankaccountno bankaccountnumber bankaccountnum bankkonto kontonummer kontonr contocorrente numerocontocorrente
        contobancario comptebancaire numerocomptebancaire cuentabancaria numerocuentabancaria contabancaria numerocontabancaria",
    ),
    names(
        Subject::Account,
        Needs::Values,
        "accountnumber accountno acctnumber acctno numeroconto numerocompte numerocuenta numeroconta coordinatebancarie",
    ),
    names(
        Subject::TaxId,
        Needs::Nothing,
        "ssn ssnnumber socialsecurity socialsecurityno socialsecuritynumber socialsecuritynum socialinsurancenumber nationalinsurance
        nationalinsurancenumber nationalinsuranceno ninumber nino taxid taxidentifier taxidentificationnumber taxpayerid taxpayernumber
        taxnumber taxno personaltaxid nationalid nationalidnumber nationalidno nationalidentitynumber
        codicefiscale codfiscale codfisc codicefisc cfiscale codicefiscalecliente
        steuerid steueridentifikationsnummer steueridnr steueridnummer steueridentnr steuernummer steuernr svnr svnummer
        sozialversicherungsnummer sozialversicherungsnr rentenversicherungsnummer rvnr ahvnummer ahvnr
        numerosecuritesociale numsecuritesociale nosecuritesociale numsecu numerosecu numerofiscal spi numeross nir
        dni dninie nie nif nifnie numerodni numeroseguridadsocial numseguridadsocial seguridadsocial nuss documentoidentidad
        cpf cpfcnpj numerocpf nis pispasep niss numeroidentificacaofiscal numerocontribuinte contribuinte segurancasocial
        curp bsn pesel personnummer",
    ),
    names(Subject::TaxId, Needs::People, "cf rg nin tin idnr fiscalcode"),
    names(
        Subject::Birth,
        Needs::Nothing,
        "birthdate birthday birthdays dateofbirth datebirth dob dobdate birthdt borndate bornon birthyear yearofbirth yearbirth
        datanascita dtnascita datanasc annonascita natoil dnascita
        geburtsdatum geburtstag gebdatum gebdat geburtsjahr gebtag
        datenaissance datenaiss dtnaissance anneenaissance neele naissance
        fechanacimiento fecnacimiento fechanac fecnac fnacimiento nacimiento anonacimiento cumpleanos
        datanascimento dtnascimento dtnasc nascimento anonascimento",
    ),
    names(Subject::Birth, Needs::People, "born birth nato age eta alter edad idade"),
    names(
        Subject::Name,
        Needs::Nothing,
        "firstname firstnames lastname lastnames surname surnames givenname givennames forename forenames middlename maidenname birthname
        fname lname firstlastname nameofperson contactname contactperson personname passengername guestname cardholdername cardholder
        accountholder accountholdername nameoncard recipientname spousename mothername fathername mothersname fathersname
        mothersmaidenname mothermaidenname nextofkin nextkin emergencycontactname customername clientname employeename patientname
        studentname doctorname payeename payername beneficiaryname tenantfullname insuredname
        cognome cognomi cognomenome nomecognome nominativo nomecompleto intestatario intestatarioconto nomecliente nomepaziente
        nomedipendente cognomenubile
        vorname vornamen nachname nachnamen familienname geburtsname zuname vollername vornachname kundenname mitarbeitername
        patientenname ansprechpartner kontoinhaber karteninhaber empfaengername
        prenom prenoms nomfamille nomcomplet nomprenom nomusage nomjeunefille nomnaissance nomclient nompatient nomsalarie titulairecompte
        apellido apellidos primerapellido segundoapellido apellidopaterno apellidomaterno nombrecompleto nombreapellidos nombrecliente
        nombrepaciente nombreempleado titularcuenta
        sobrenome apelido nomemae nomepai nomecompletocliente nometitular nomefuncionario nomealuno nomesocial titularconta",
    ),
    names(
        Subject::Name,
        Needs::Values,
        "fullname realname legalname titular titulaire inhaber signatory signedby attn attention referente",
    ),
    names(
        Subject::Name,
        Needs::People,
        "name names displayname nome nomi nom noms nombre nombres nickname initials salutationname firstlast",
    ),
    names(
        Subject::Address,
        Needs::Nothing,
        "homeaddress postaladdress residentialaddress mailingaddress billingaddress shippingaddress deliveryaddress streetaddress
        residenceaddress addressline addressline1 addressline2 addressline3 street1 street2 placeofresidence
        indirizzoresidenza indirizzodomicilio indirizzospedizione indirizzofatturazione residenza domicilio
        wohnanschrift wohnadresse wohnort postanschrift lieferadresse rechnungsadresse privatadresse lieferanschrift rechnungsanschrift
        meldeadresse hausnummer hausnr
        adressepostale adressedomicile adresselivraison adressefacturation lieuresidence
        direccionpostal direccionenvio direccionfacturacion direccionresidencia domicilioparticular
        enderecoentrega enderecocobranca enderecoresidencial enderecoresidencia moradafiscal",
    ),
    names(
        Subject::Address,
        Needs::People,
        "address addresses addr addr1 addr2 address1 address2 address3 street streetname streetno streetnumber housenumber housenumberaddition
        apartment postcode postalcode zipcode zip city town suburb
        indirizzo via civico numerocivico cap citta comune localita frazione
        strasse str anschrift adresse plz postleitzahl ort stadt ortsteil
        rue voie codepostal ville commune complementadresse
        direccion calle codigopostal cp ciudad localidad municipio colonia
        endereco morada rua logradouro cep cidade bairro codigopostale",
    ),
    names(
        Subject::Income,
        Needs::Nothing,
        "salary salaries salaryamount basesalary grosssalary netsalary annualsalary monthlysalary hourlywage wage wages grosspay netpay
        annualincome monthlyincome householdincome personalincome
        stipendio stipendiolordo stipendionetto stipendi retribuzione retribuzionelorda redditoannuo redditomensile
        gehalt bruttogehalt nettogehalt jahresgehalt monatsgehalt lohn bruttolohn nettolohn einkommen jahreseinkommen
        salaire salairebrut salairenet salaireannuel revenuannuel revenumensuel
        sueldo sueldobruto sueldoneto salario salariobruto salarioneto salarioanual ingresosanuales
        salariobase salarioliquido rendaanual rendamensal rendafamiliar vencimento",
    ),
    names(Subject::Income, Needs::People, "income reddito ral revenu revenus ingresos renda remuneration remuneracion remuneracao"),
    names(
        Subject::Health,
        Needs::Nothing,
        "diagnosis diagnoses medicaldiagnosis primarydiagnosis icd10 icd10code icdcode icd9 allergies allergy bloodtype bloodgroup medication
        medications medicalhistory medicalnotes medicalcondition medicalconditions medicalrecord healthcondition healthstatus
        healthinsurancenumber healthinsuranceno insurednumber insurancepolicynumber medicarenumber medicareno nhsnumber nhsno medicalrecordnumber mrn clinicalnotes
        symptoms disability disabilities hivstatus vaccinationstatus prescriptions mentalhealth chronicdiseases
        diagnosi allergie grupposanguigno farmaci terapia terapie patologia patologie patologiepregresse anamnesi sintomi disabilita
        tesserasanitaria invalidita cartellaclinica
        diagnose diagnosen blutgruppe medikamente medikation allergien krankheiten krankheit vorerkrankungen anamnese symptome behinderung
        schwerbehinderung krankenversicherungsnummer krankenversichertennummer versichertennummer kvnr krankengeschichte
        diagnosticmedical groupesanguin medicaments traitementmedical antecedents antecedentsmedicaux pathologies symptomes cartevitale
        maladies handicap
        diagnostico diagnosticos diagnosticomedico gruposanguineo tiposangre alergias medicamentos medicacion antecedentesmedicos enfermedades
        sintomas discapacidad historiaclinica tarjetasanitaria
        tiposanguineo medicacao doencas historicomedico deficiencia numeroutente cartaosus prontuario",
    ),
    names(Subject::Health, Needs::People, "treatment therapy diagnostic pathology condition conditions insuranceno insurancenumber insuranceid illness disease"),
    names(
        Subject::Trait,
        Needs::Nothing,
        "religion religiousaffiliation ethnicity ethnicorigin ethnicgroup nationality citizenship maritalstatus civilstatus
        politicalaffiliation politicalopinion politicalparty sexualorientation genderidentity unionmembership placeofbirth birthplace
        countryofbirth countrybirth cityofbirth birthcity passport passportno passportnumber passportnr driverlicense driverslicense driverlicence
        drivinglicense drivinglicence driverlicensenumber driverslicensenumber drivinglicencenumber drivinglicenseno idcard idcardnumber
        idcardno identitycard identitycardnumber licenseplate licenceplate platenumber residencepermit
        religione nazionalita cittadinanza statocivile luogonascita comunenascita cittanascita etnia orientamentosessuale
        passaporto numeropassaporto patente numeropatente cartaidentita numerocartaidentita documentoidentita numerodocumento targa
        konfession nationalitaet nationalitat staatsangehoerigkeit staatsangehorigkeit staatsburgerschaft familienstand geburtsort geburtsland
        reisepass reisepassnummer reisepassnr passnummer ausweisnummer personalausweis personalausweisnummer personalausweisnr fuhrerschein
        fuehrerschein fuhrerscheinnummer fuehrerscheinnummer kfzkennzeichen herkunft ethnie
        nationalite situationfamiliale etatcivil lieunaissance villenaissance paysnaissance passeport numeropasseport numeropermis permisconduire
        carteidentite numerocarteidentite numerocni plaqueimmatriculation origineethnique
        nacionalidad estadocivil lugarnacimiento pasaporte numeropasaporte carnetconducir permisoconducir orientacionsexual
        nacionalidade localnascimento naturalidade passaportenumero passaporte numeropassaporte cartaconducao cnh raca orientacaosexual
        cartaocidadao estadocivilcliente",
    ),
    names(
        Subject::Trait,
        Needs::People,
        "gender sex race ethnic genere sesso geschlecht sexe genre genero sexo religionid photo foto signature firma unterschrift",
    ),
];

/// Whom tables are about, and who may be named beside a word.
pub const PEOPLE: &str = "person persons people user users customer customers client clients patient patients employee employees staff
    member members contact contacts contactperson subscriber subscribers applicant applicants candidate candidates student students pupil pupils teacher teachers
    doctor doctors physician physicians nurse nurses guest guests passenger passengers tenant tenants resident residents citizen citizens
    donor donors volunteer volunteers beneficiary beneficiaries insured policyholder policyholders cardholder cardholders driver drivers
    lead leads prospect prospects attendee attendees participant participants visitor visitors buyer buyers seller recipient recipients
    payee payees payer spouse parent parents child children mother father kin emergency worker workers human humans individual individuals
    author authors cliente clienti utente utenti paziente pazienti dipendente dipendenti impiegato impiegati persona persone contatto contatti
    studente studenti alunno alunni medico medici socio soci iscritto iscritti lavoratore lavoratori collaboratore collaboratori ospite ospiti
    cittadino cittadini anagrafica anagrafiche candidato candidati titolare titolari inquilino inquilini destinatario assistito assistiti
    personen kunde kunden benutzer nutzer mitarbeiter mitarbeitende angestellte patienten mitglied mitglieder kontakt kontakte bewerber
    schuler schueler lehrer arzt arzte aerzte mieter versicherter versicherte teilnehmer empfanger empfaenger personal ansprechpartner
    gast gaste gaeste einwohner burger buerger
    personne personnes clientes utilisateur utilisateurs salarie salaries employe employes adherent adherents abonne abonnes eleve eleves
    etudiant etudiants medecin medecins locataire locataires usager usagers destinataire membre membres candidats assure assures
    benevole benevoles enfant enfants
    personas usuario usuarios empleado empleados paciente pacientes contacto contactos alumno alumnos estudiante estudiantes
    socios miembro miembros medicos trabajador trabajadores ciudadano ciudadanos inquilinos solicitante solicitantes
    pessoa pessoas funcionario funcionarios colaborador colaboradores contato contatos aluno alunos estudantes associado associados
    trabalhador trabalhadores cidadao cidadaos utilizador utilizadores hospede hospedes dependente dependentes candidatos utentes";

/// What tables of people's addresses are called.
pub const ADDRESSES: &str = "address addresses addressbook indirizzo indirizzi adresse adressen adresses anschriften direccion direcciones
    endereco enderecos morada moradas residenze";

/// What a table is about if its addresses and names are not people's.
pub const PLACES: &str = "store stores shop shops warehouse warehouses branch branches office offices site sites venue venues location locations
    place places station stations restaurant restaurants hotel hotels company companies organization organizations organisation organisations
    supplier suppliers vendor vendors building buildings property properties facility facilities plant plants depot depots city cities
    country countries region regions airport airports port ports geo geocode geocodes poi pois event events magazzino magazzini negozio negozi
    sede sedi azienda aziende fornitore fornitori filiale filialen lager standort standorte firma firmen lieferant lieferanten entrepot
    entrepots magasin magasins entreprise entreprises fournisseur fournisseurs tienda tiendas almacen almacenes empresa empresas proveedor
    proveedores loja lojas armazem fornecedor fornecedores server servers host hosts device devices sensor sensors node nodes gateway
    gateways network networks machine machines domain domains";

/// What may follow the name of a table's subject: `user_profiles`.
pub const ABOUT: &str = "data detail details info information profile profiles record records archive archives list table base master old
    backup copy import imports export exports staging stage raw tmp temp anagrafica stammdaten archivio registry register account accounts
    dati daten donnees datos dados perfil profil fiche fiches tbl";

/// Words around names that leave them what they are, before or after.
pub const BESIDE: &str = "primary secondary main home work office business private personal alt alternate alternative other old new current
    previous former prev last first original raw clean cleaned norm normalized normalised lower upper plain plaintext text txt str string value
    val line number no nr num numero nummer phonetic kana latin native legal official preferred full complete emergency billing shipping
    delivery invoice invoicing bill ship to from by for on my a b i ii iii principale secondario privato ufficio casa lavoro privat
    geschaftlich geschaeftlich dienstlich haupt personnel professionnel domicile principal trabajo oficina pessoal trabalho residencial
    encrypted enc secure";

/// Words before a name that say it is a choice or a number, not the thing itself.
pub const NOT_BEFORE: &str = "is has can num count max min total allow allows show hide require requires required notify send sends enable
    enabled disable disabled verify uses ip ipv mac web url uri wallet contract memory bind listen bluetooth i2c bus remote local peer src dst
    source target host hostname server node device gateway smtp imap xmpp sip template file column table field type product brand
    company business organization organisation firm vendor supplier store shop branch bank city country region state domain group
    role team project category event city app application";
